"""docs/http.md is what the service says of itself, and its examples are answered."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from drsft.config import Prompts
from drsft.policy.prompts import load_prompter
from drsft.verify.pool import VerifierPool
from serve.http.reference import http_reference
from tests.support.serve import Policy, make_service, served

PAGE = Path(__file__).parents[3] / "docs/http.md"
EXAMPLES = re.findall(r"^    curl .*?(?=\n\S|\n\n|\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with VerifierPool() as pool:
        policy = Policy(lambda seed: "The answer is \\boxed{29}.")
        with served(make_service(policy, load_prompter("embedded", Prompts()), pool)) as url:
            yield url


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == http_reference(), (
        "write it again: python -m serve.http.reference > docs/http.md"
    )


def test_every_field_and_parameter_has_a_meaning() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert len(rows) > 60
    assert [row for row in rows if not all(cell.strip() for cell in row.strip("|").split("|"))] == []


def test_every_route_has_an_example() -> None:
    routes = re.findall(r"^## (?:GET|POST) (\S+)$", PAGE.read_text(), re.MULTILINE)
    assert len(routes) == len(EXAMPLES) == 6
    for route, example in zip(routes, EXAMPLES, strict=True):
        assert f"localhost:8700{route}" in example.split()


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.split()[2].removeprefix("localhost:8700"))
def test_every_example_is_answered(example: str, url: str) -> None:
    command = example.replace("curl -s", "curl --fail-with-body -s").replace("http://", "")
    command = command.replace("localhost:8700", url)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    if "/rewrite" in example:
        assert '"answer":"29"' in done.stdout.replace(" ", "")
