"""The objectives against a slow oracle through `drsft doctor losses`, and the doctor against wrong files."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from drsft.cli import app
from drsft.doctor.losses.check import check_losses
from drsft.doctor.losses.fixtures import METHODS as KNOWN
from drsft.errors import InputError
from tests.support.loss_oracle import METHODS, worked_case

SHAPES = [
    {"rows": 1, "tokens": 4, "vocab": 5},
    {"rows": 2, "tokens": 3, "vocab": 3},
    {"rows": 3, "tokens": 6, "vocab": 11},
]
BLOCKS: dict[str, Any] = {
    "microbatch_normalisation": {"micro_batches": [[0.5], [2.0, 0.25, 1.25]], "global_token_mean": 1.0},
    "dr_selection": {
        "cases": [
            {"self": [0, 1, 1], "guided": None, "stage": "self", "keep_from": [1, 2]},
            {"self": [0, 0], "guided": [0, 0, 1], "stage": "guided", "keep_from": [2]},
            {"self": [0], "guided": [0], "stage": "fallback", "keep_from": "expert"},
        ]
    },
    "iw_sft_ema": {
        "seq_logq_minus_logref_mean": [0.0, 1.0],
        "temp": 10.0,
        "ratio": [1.0, 1000.0],  # e^10 is past the limit
        "ratio_normalised": [1 / 1001, 1000 / 1001],
        "ema_decay": 0.75,
        "theta_q_before": 4.0,
        "theta": 8.0,
        "theta_q_after": 5.0,
    },
}


@pytest.fixture(scope="module")
def cases() -> list[dict[str, Any]]:
    return [worked_case(seed, **shape) for seed, shape in enumerate(SHAPES)]


def write(tmp_path: Path, tree: Any) -> Path:
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(tree))
    return path


def test_every_known_method_is_in_the_oracle() -> None:
    assert {name.split("@")[0] for name in METHODS} == set(KNOWN)


def test_both_ways_reproduce_the_oracle(cases: list[dict[str, Any]], tmp_path: Path) -> None:
    report = check_losses(write(tmp_path, {"cases": cases, **BLOCKS}))
    assert report.complaints == []
    quantities = {found.quantity for found in report.of_methods}
    assert quantities == {
        f"{way} {quantity}"
        for way in ("plain", "fused")
        for quantity in ("weight", "token loss", "loss", "gradient")
    }
    assert {found.subject for found in report.of_methods} == set(KNOWN)
    assert {found.block for found in report.findings} >= set(BLOCKS)


@pytest.mark.parametrize("quantity", ["weight", "per_token_loss", "loss", "grad_logits"])
def test_a_wrong_number_is_found(cases: list[dict[str, Any]], tmp_path: Path, quantity: str) -> None:
    case = copy.deepcopy(cases[0])
    expected = case["methods"]["dft"]
    if quantity == "loss":
        expected[quantity] += 3e-6
    elif quantity == "grad_logits":
        expected[quantity][0][-1][0] += 3e-6
    else:
        expected[quantity][0][-1] += 3e-6
    path = write(tmp_path, {"cases": [case]})
    report = check_losses(path)
    assert len(report.complaints) == 2, "one for each way"
    assert all("dft" in line and "3e-06" in line for line in report.complaints)
    assert CliRunner().invoke(app, ["doctor", "losses", "--fixtures", str(path)]).exit_code == 1


def test_a_right_file_ends_with_0(cases: list[dict[str, Any]], tmp_path: Path) -> None:
    path = write(tmp_path, {"cases": cases[:1]})
    assert CliRunner().invoke(app, ["doctor", "losses", "--fixtures", str(path)]).exit_code == 0


@pytest.mark.parametrize("block", BLOCKS)
def test_a_wrong_block_is_found(cases: list[dict[str, Any]], tmp_path: Path, block: str) -> None:
    blocks = copy.deepcopy(BLOCKS)
    match block:
        case "microbatch_normalisation":
            blocks[block]["global_token_mean"] = 1.1
        case "dr_selection":
            blocks[block]["cases"][1]["keep_from"] = [0]
        case _:
            blocks[block]["ratio"][1] = 999.0
    report = check_losses(write(tmp_path, {"cases": cases[:1], **blocks}))
    assert len(report.complaints) == 1
    assert block in report.complaints[0]


def test_an_unknown_method_is_named_and_the_others_are_checked(
    cases: list[dict[str, Any]], tmp_path: Path
) -> None:
    case = copy.deepcopy(cases[0])
    case["methods"]["magic"] = case["methods"]["sft"]
    report = check_losses(write(tmp_path, {"cases": [case]}))
    assert not report.is_right
    assert len(report.unknown) == 1
    assert "'magic': no such objective; known are sft, dft" in report.unknown[0]
    assert len(report.of_methods) == len(METHODS) * 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda case: case["methods"]["psft"]["hyperparameters"].update(clip=1), r"psft.*'clip'"),
        (lambda case: case.pop("ref_logprobs"), r"iw_sft_seq.*the start's log-probs"),
        (lambda case: case.pop("labels"), r"random 0.*labels"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(
    cases: list[dict[str, Any]], tmp_path: Path, change: Any, message: str
) -> None:
    case = copy.deepcopy(cases[0])
    change(case)
    with pytest.raises(InputError, match=message):
        check_losses(write(tmp_path, {"cases": [case]}))


def test_a_part_beside_the_cases_that_cannot_be_read_is_named_with_its_file(tmp_path: Path) -> None:
    path = write(tmp_path, {"cases": [], "iw_sft_ema": {}})
    with pytest.raises(InputError, match=r"the key 'iw_sft_ema' cannot be read") as caught:
        check_losses(path)
    assert str(caught.value).startswith(f"{path}: ")


STEP = {
    "name": "even", "hinted_logits": [0.0, 0.0], "plain_logits": [1.0, 0.0], "beta": 0.5,
    "vocab_size_for_norm": 4, "entropy_norm": 0.5, "lam": 0.25, "greedy": 0,
}  # fmt: skip


def test_steps_of_hinted_decoding_alone_are_a_file_too(tmp_path: Path) -> None:
    report = check_losses(write(tmp_path, {"hinted_decoding_steps": [STEP]}))
    assert report.is_right
    assert len(report.findings) == 3


def test_a_number_that_is_none_never_hides_behind_a_right_one(tmp_path: Path) -> None:
    steps = [{**STEP, "lam": float("nan")}]
    report = check_losses(write(tmp_path, {"hinted_decoding_steps": steps}))
    assert report.complaints == ["wrong: hinted_decoding_steps, hinted_decoding_steps, even lam: off by nan"]


def test_a_file_with_nothing_to_check_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to check"):
        check_losses(write(tmp_path, {"cases": []}))


def test_something_else_than_fixtures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="list of cases"):
        check_losses(write(tmp_path, [1, 2]))
    (tmp_path / "text").write_text("hello")
    with pytest.raises(InputError, match="JSON"):
        check_losses(tmp_path / "text")
