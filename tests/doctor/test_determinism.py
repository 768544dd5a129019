"""`drsft doctor determinism`: what counts as equal, and what the embedded model repeats on this machine."""

import pytest

from drsft.config.configfile import load_config
from drsft.doctor.determinism.agreement import agreement_of, agreement_of_numbers
from drsft.doctor.determinism.probes import compare_passes
from tests.ray.test_runs import CONFIG


def test_a_value_that_only_one_side_has_is_different() -> None:
    found = agreement_of({"a": (1, 2), "b": None}, {"a": (1, 2), "c": None})
    assert (found.num_equal, found.num_compared) == (1, 3)
    assert str(found) == "1 of 3 equal"


def test_numbers_are_compared_bit_for_bit_and_their_largest_distance_is_told() -> None:
    found = agreement_of_numbers([1.0, 2.0, 3.0], [1.0, 2.0 + 2**-40, 2.5])
    assert (found.num_equal, found.num_compared, found.largest_difference) == (1, 3, 0.5)
    assert str(found) == "1 of 3 equal, at most 5.0e-01 apart"
    assert str(agreement_of_numbers([0.1], [0.1])) == "all 1 equal"
    assert str(agreement_of_numbers([], [])) == "nothing to compare"


@pytest.mark.engine
def test_a_second_pass_repeats_all_stages_and_other_batches_what_is_asked() -> None:
    said: list[str] = []
    config = load_config(CONFIG, ("train.arms=[{name: dr+dft}]",))
    compared = {(one.stage, one.what): one for one in compare_passes(config, num_problems=3, say=said.append)}
    assert {stage for stage, _ in compared} == {"rewrite", "gap", "train"}
    assert said[0] == "rewriting 3 problems: twice together, then one by one"
    for one in compared.values():
        assert one.again.num_compared > 0
        assert one.again.num_equal == one.again.num_compared, f"{one.stage}: {one.what}"
    asked = compared["rewrite", "prompts and seeds of samples"].in_other_batches
    assert asked.num_equal == asked.num_compared
    scores = compared["gap", "log-probs of kept texts, in nats"].in_other_batches
    assert scores.largest_difference is not None
    assert scores.largest_difference < 1e-4
