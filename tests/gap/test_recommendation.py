"""The recommendation's rule on cases by hand."""

import math

from drsft.gap.recommendation import LIMITS, recommend
from drsft.gap.summary import summarise
from tests.support.gap import Scored, scored_rows


def _rows(source: str, phi: float, count: int, *, logprob: float = -0.5) -> list[Scored]:
    """Rows whose every token has this phi, a little more or less by row."""
    return [
        Scored(
            row_id=f"{source}{i}",
            source=source,
            logprobs=[logprob] * 10,
            entropy=phi - logprob + 0.01 * math.sin(i),
        )
        for i in range(count)
    ]


def test_own_texts_need_no_more_rewriting() -> None:
    advice = recommend(summarise(model="m", rows=scored_rows(_rows("own", 0.01, 40))))
    assert advice is not None
    assert (advice.objective, advice.rewrite_more) == ("dft", False)
    assert "level" in advice.reasons[1]
    assert advice.limits == LIMITS


def test_a_gap_asks_for_rewriting_and_names_its_source() -> None:
    rows = [*_rows("own", 0.01, 60), *_rows("expert", -1.0, 20)]
    advice = recommend(summarise(model="m", rows=scored_rows(rows)))
    assert advice is not None
    assert (advice.objective, advice.rewrite_more) == ("dft", True)
    assert advice.reasons[-1].startswith("20 rows from expert (25% of the rows) hold 100% of the negative φ")


def test_two_odd_rows_of_few_raise_no_alarm() -> None:
    """The mean lies below the threshold, its interval reaches above."""
    rows = [*_rows("own", 0.01, 8), *_rows("expert", -0.9, 1)]
    summary = summarise(model="m", rows=scored_rows(rows))
    kept = summary.group("kept")
    assert kept is not None
    assert kept.mean_phi < -0.09
    advice = recommend(summary)
    assert advice is not None
    assert not advice.rewrite_more


def test_text_that_the_model_hardly_knows_is_for_sft() -> None:
    advice = recommend(summarise(model="m", rows=scored_rows(_rows("expert", -4.0, 30, logprob=-5.0))))
    assert advice is not None
    assert (advice.objective, advice.rewrite_more) == ("sft", True)
    assert "0.01" in advice.reasons[1]


def test_nothing_to_train_on_gives_no_advice() -> None:
    assert recommend(summarise(model="m", rows=scored_rows([]))) is None
