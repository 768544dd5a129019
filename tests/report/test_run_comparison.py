"""Two runs on one page: which arms differ clearly, and every setting that does."""

from dataclasses import replace

import pytest

from drsft.errors import InputError
from drsft.evaluate.paired import PairedDifference
from drsft.report.findings.two_runs import comparison_finding
from drsft.report.html.compare_page import render_comparison
from drsft.report.run_comparison import ArmOfBoth, RunComparison, figures_of, settings_that_differ
from tests.report.test_costs import CONFIG
from tests.report.test_report import EMPTY
from tests.support.report_sample import sample_report


def _arm(arm: str, low: float, high: float) -> ArmOfBoth:
    value = (low + high) / 2
    difference = PairedDifference(value=value, low=low, high=high, num_problems=100, num_gained=9, num_lost=4)
    return ArmOfBoth(arm=arm, benchmark="gsm", first=0.4, second=0.4 + value, difference=difference)


def _compared(*arms: ArmOfBoth) -> RunComparison:
    return RunComparison(
        first="a-1", second="b-2", arms=arms, only_first=("sft",), only_second=(), figures=(), settings=()
    )


def _sentence(*arms: ArmOfBoth) -> str:
    return comparison_finding(_compared(*arms)).sentence


def test_the_headline_names_clear_gains_and_losses_only() -> None:
    up, down, level = _arm("dft", 0.01, 0.05), _arm("sft", -0.06, -0.02), _arm("iw", -0.02, 0.03)
    assert _sentence(up, down, level) == (
        "b-2 gains clearly with dft (+3.0 on gsm) and loses clearly with sft (−4.0 on gsm) against a-1."
    )
    assert _sentence(level) == "No arm differs clearly between b-2 and a-1."
    assert "no arm that was evaluated on the same problems" in _sentence()


def test_settings_that_differ_are_named_by_their_keys() -> None:
    other = CONFIG.model_copy(
        update={"seed": 3, "train": CONFIG.train.model_copy(update={"learning_rate": 1e-6})}
    )
    found = {one.name: (one.first, one.second) for one in settings_that_differ(CONFIG, other)}
    assert found == {
        "seed": ("0", "3"),
        "train.learning_rate": (str(CONFIG.train.learning_rate), "1e-06"),
    }
    assert list(settings_that_differ(CONFIG, CONFIG)) == []


def test_an_arm_more_is_a_setting_that_one_run_lacks() -> None:
    arm = CONFIG.train.arms[0].model_copy(update={"name": "other"})
    train = CONFIG.train.model_copy(update={"arms": (*CONFIG.train.arms, arm)})
    found = list(settings_that_differ(CONFIG, CONFIG.model_copy(update={"train": train})))
    assert {one.first for one in found} == {None}
    assert "train.arms.1.name" in {one.name for one in found}


def test_figures_stand_beside_each_other_and_gaps_stay_gaps() -> None:
    told = {one.name: (one.first, one.second) for one in figures_of(sample_report(), EMPTY)}
    assert told["Problems"] == ("512", "0")
    assert told["Tokens sampled for a kept row"] == ("244", None)
    assert told["Rows kept, own"] == ("56.1\u202f%", None)


def test_the_page_has_every_part_and_escapes_names() -> None:
    attack = "<script>alert(1)</script>"
    arm = replace(_arm("dft", 0.01, 0.05), arm=attack)
    page = render_comparison(replace(_compared(arm), figures=tuple(figures_of(sample_report(), EMPTY))))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 3
    assert "Only in a-1: sft" in page
    assert "No setting differs." in page
    assert page.count("<svg") == 3
    assert "No arm was evaluated" in render_comparison(_compared())


def test_a_run_is_not_compared_with_itself(tmp_path: object) -> None:
    from drsft.report.run_comparison import compare_runs
    from drsft.run.run import find_run
    from drsft.storage import LocalStore

    store = LocalStore(tmp_path)  # type: ignore[arg-type]
    store.put("run.json", b"{}")
    store.put("config.json", CONFIG.model_dump_json().encode())
    with pytest.raises(InputError, match="the same run"):
        compare_runs(find_run(str(tmp_path)), find_run(str(tmp_path)))
