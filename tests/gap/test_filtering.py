"""Filtering training rows by the gap: what stays, what is counted."""

import pyarrow as pa
import pytest
from pydantic import ValidationError

from drsft.config import GapFilter, Train
from drsft.gap.filtering import filter_records, refusal
from drsft.gap.scored_texts import Role
from drsft.run import layout
from drsft.run.tables import RECORD_SCHEMA
from tests.support.gap import Scored, scored_rows

COLUMNS = ["problem_id", "source", "prompt_ids", "completion_ids", "expert_completion_ids", "also_kept"]
SCHEMA = pa.schema([RECORD_SCHEMA.field(name) for name in COLUMNS])


def _kept(ids: list[int]) -> dict[str, object]:
    return {"token_ids": ids, "text": "", "behaviour_logprobs": None, "finish_reason": "stop"}


RECORDS = pa.Table.from_pylist(
    [
        {"problem_id": name, "source": source, "completion_ids": ids, "also_kept": list(map(_kept, more))}
        | {"prompt_ids": [9], "expert_completion_ids": [4]}
        for name, source, ids, more in (
            ("a", "own", [1], ([2], [3])),
            ("b", "expert", [4], ()),
            ("c", "dropped", [], ()),
        )
    ],
    schema=SCHEMA,
)
SCORES = scored_rows(
    [
        Scored(row_id="a", source="own", logprobs=[-5.0]),
        Scored(row_id="a", source="own", logprobs=[-1.0], index=1),
        Scored(row_id="a", source="own", logprobs=[-1.2], index=2),
        Scored(row_id="b", source="expert", logprobs=[-4.0]),
        *(Scored(row_id=name, source="expert", logprobs=[-4.0], role=Role.DEMONSTRATION) for name in "bc"),
        Scored(row_id="a", source="expert", logprobs=[-1.0], role=Role.DEMONSTRATION),
    ]
)


def test_refused_texts_go_and_the_others_of_their_problem_stay() -> None:
    kept, counts = filter_records(RECORDS, SCORES, GapFilter(min_phi=-2), data="rewritten")
    rows = kept.to_pylist()
    assert [row["problem_id"] for row in rows] == ["a", "c"]
    assert rows[0]["completion_ids"] == [2]
    assert [one["token_ids"] for one in rows[0]["also_kept"]] == [[3]]
    assert (counts.num_texts, counts.num_left_out) == (4, 2)
    assert counts.reasons == {"mean phi below -2": 2}
    assert counts.sources == {"own": 1, "expert": 1}


def test_the_experts_view_goes_by_the_demonstrations() -> None:
    kept, counts = filter_records(RECORDS, SCORES, GapFilter(min_logprob=-2), data="expert")
    assert kept["problem_id"].to_pylist() == ["a"]
    assert kept["completion_ids"].to_pylist() == [[1]], "what the view does not train on is left alone"
    assert (counts.num_texts, counts.num_left_out) == (3, 2)


@pytest.mark.parametrize(
    ("bounds", "mean_logprob", "mean_phi", "why"),
    [
        ({"min_logprob": -1}, -1.0, -9, None),
        ({"min_logprob": -1}, -1.01, 0, "mean log-prob below -1"),
        ({"min_phi": -0.5}, -1, -0.51, "mean phi below -0.5"),
        ({"max_abs_phi": 0.5}, -1, 0.51, "mean phi further than 0.5 from zero"),
        ({"max_abs_phi": 0.5}, -1, -0.5, None),
    ],
)
def test_bounds(bounds: dict[str, float], mean_logprob: float, mean_phi: float, why: str | None) -> None:
    assert refusal(GapFilter(**bounds), mean_logprob=mean_logprob, mean_phi=mean_phi) == why


def test_a_filter_without_bounds_is_refused_and_another_filter_packs_anew() -> None:
    with pytest.raises(ValidationError, match="min_logprob, min_phi or max_abs_phi"):
        GapFilter()
    filters = (None, GapFilter(min_phi=-1), GapFilter(min_phi=-2))
    assert len({layout.packed_rows(Train(filter=one), "expert") for one in filters}) == 3
