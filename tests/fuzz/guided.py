"""Parsers under input that grows towards new code (atheris): whatever the bytes, they are taken or refused.

    .venv/bin/python -m pip install atheris==3.0.0
    .venv/bin/python tests/fuzz/guided.py --seconds 60 [--only NAME]

Each parser has a process of its own. Ends with 1 when one raised what it should not, or took more than ten
seconds for one input, which is then in the folder of --out.
"""

import argparse
import gzip
import io
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["drsft", "serve"]):
    from drsft.config import yamlfile
    from drsft.errors import UserError
    from drsft.intake import rows
    from drsft.run.shards import Commit
    from drsft.storage import LocalStore
    from drsft.storage.typed import read_stored
    from drsft.verify.case import Case
    from drsft.verify.choice.verdict import judge_choice
    from drsft.verify.numeric import judge_numeric
    from drsft.verify.options import VerifyOptions
    from drsft.verify.references import parse_reference
    from drsft.verify.steps.check import check_steps

DONE = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
COVERED = re.compile(r"cov: (\d+)")


class OneObject(LocalStore):
    """A store in which every key holds the same bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__(Path("/nowhere"))
        self._data = data

    def read(self, key: str) -> bytes:
        return self._data


def problem_file(data: bytes) -> None:
    list(rows._rows_of_json_lines(io.BytesIO(data), "file", is_gzip=False))


def compressed_problem_file(data: bytes) -> None:
    cut = len(data) // 3
    whole = gzip.compress(data[cut:]) if data[:1] < b"\x80" else data
    list(rows._rows_of_json_lines(io.BytesIO(whole[: len(whole) - cut]), "file", is_gzip=True))


def configuration(data: bytes) -> None:
    with suppress(yamlfile.NotYamlError):
        yamlfile.read_yaml(data.decode("utf-8", "replace"))


def stored_object(data: bytes) -> None:
    read_stored(OneObject(data), "key", Commit)


def reference(data: bytes) -> None:
    text = data.decode("utf-8", "surrogatepass" if data[:1] == b"s" else "replace")
    for kind in ("math", "numeric", "regex", "code", "choice"):
        parse_reference(text, kind)


def solution(data: bytes) -> None:
    """In process; the service and the actors read solutions in processes that may be killed."""
    question, _, text = data.decode("utf-8", "replace").partition("\n")
    check_steps(text)
    for judge, kind, answer in ((judge_numeric, "numeric", "3 m"), (judge_choice, "choice", "B")):
        judge(Case(kind=kind, question=question, reference=answer, text=text), VerifyOptions())


PARSERS: dict[str, Callable[[bytes], None]] = {
    one.__name__: one
    for one in (
        problem_file,
        compressed_problem_file,
        configuration,
        stored_object,
        reference,
        solution,
    )
}


def fuzz(name: str, arguments: list[str]) -> None:
    """Does not return: libFuzzer ends the process."""

    def one_input(data: bytes) -> None:
        with suppress(UserError, UnicodeDecodeError):
            PARSERS[name](data)

    atheris.Setup([sys.argv[0], *arguments], one_input)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=60, help="of each parser")
    parser.add_argument("--only", choices=PARSERS)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="inputs that were not survived")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inside", nargs="*", help=argparse.SUPPRESS)
    given, options = parser.parse_known_args()
    if given.inside is not None:
        fuzz(given.only, options)
    given.out.mkdir(parents=True, exist_ok=True)
    print(f"{'parser':<26}{'inputs':>12}{'branches':>10}{'crashes':>9}")
    num_crashed = 0
    for name in [given.only] if given.only else PARSERS:
        limits = [f"-max_total_time={given.seconds}", "-timeout=10", f"-seed={given.seed}", "-max_len=512"]
        command = [sys.executable, __file__, "--only", name, "--inside", "--", *limits]
        command += ["-print_final_stats=1", f"-artifact_prefix={given.out}/{name}-"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        inputs, covered = DONE.findall(done.stderr) or ["0"], COVERED.findall(done.stderr) or ["0"]
        has_crashed = done.returncode != 0
        num_crashed += has_crashed
        print(f"{name:<26}{int(inputs[-1]):>12,}{int(covered[-1]):>10,}{has_crashed:>9}", flush=True)
        if has_crashed:
            print(done.stderr[-2000:], file=sys.stderr)
    sys.exit(num_crashed > 0)


if __name__ == "__main__":
    main()
