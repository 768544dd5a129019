"""The states that records store as text are read back, also those that older versions wrote."""

import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drsft.records import Attempt, FinishReason, Phase, Record, Rejection, RejectionKind
from drsft.run.tables import records_from_table, records_to_table
from tests.run.test_records_documented import record

# As runs have stored them since the first version.
STORED_REJECTIONS = {
    "empty": Rejection(RejectionKind.EMPTY),
    "loops": Rejection(RejectionKind.LOOPS),
    "mentions its guide": Rejection(RejectionKind.MENTIONS_GUIDE),
    "mentions its guide: the teacher said": Rejection(RejectionKind.MENTIONS_GUIDE, "the teacher said"),
    "its thought mentions its guide: the teacher": Rejection(
        RejectionKind.THOUGHT_MENTIONS_GUIDE, "the teacher"
    ),
    "several different boxed answers": Rejection(RejectionKind.SEVERAL_BOXES),
    "its equations do not hold": Rejection(RejectionKind.UNSOUND_STEPS),
    "too few equations": Rejection(RejectionKind.TOO_FEW_STEPS),
    "no calculation gives its answer": Rejection(RejectionKind.UNDERIVED),
    "its answer does not follow from it": Rejection(RejectionKind.UNGROUNDED),
    "less likely than the expert's text": Rejection(RejectionKind.WIDENS_GAP),
    "too long for the model": Rejection(RejectionKind.TOO_LONG),
    "a reason of some other version": Rejection(RejectionKind.OTHER, "a reason of some other version"),
}
STORED_PHASES = ("self_align", "guided", "analysis", "hinted", "teacher", "teacher_guided")


def attempt() -> Attempt:
    return record().attempts[0]


def holding(one: Attempt) -> Record:
    return replace(record(), attempts=(one,))


def stored(one: Attempt) -> dict[str, object]:
    """The attempt's row as another tool reads it."""
    row: dict[str, object] = records_to_table([holding(one)]).to_pylist()[0]["attempts"][0]
    return row


def read_back(one: Attempt) -> Attempt:
    return records_from_table(records_to_table([holding(one)]))[0].attempts[0]


@pytest.mark.parametrize("text", STORED_REJECTIONS)
def test_a_rejection_is_stored_as_its_text_and_read_back(text: str) -> None:
    rejected = replace(attempt(), rejection=STORED_REJECTIONS[text])
    assert stored(rejected)["refusal"] == text
    assert read_back(rejected) == rejected
    assert not rejected.is_accepted


def test_every_kind_of_rejection_has_a_stored_text() -> None:
    assert {rejection.kind for rejection in STORED_REJECTIONS.values()} == set(RejectionKind)


@given(text=st.one_of(st.text(), st.builds("{}{}".format, st.sampled_from(RejectionKind), st.text())))
def test_any_stored_text_of_a_rejection_survives_reading_and_writing(text: str) -> None:
    assert str(Rejection.from_text(text)) == text


@given(
    kind=st.sampled_from([one for one in RejectionKind if one is not RejectionKind.OTHER]), detail=st.text()
)
def test_a_rejection_with_a_detail_is_read_back_from_its_text(kind: RejectionKind, detail: str) -> None:
    assert Rejection.from_text(str(Rejection(kind, detail))) == Rejection(kind, detail)


def test_phases_are_stored_under_the_names_they_always_had() -> None:
    assert tuple(phase.value for phase in Phase) == STORED_PHASES
    for phase in Phase:
        one = replace(attempt(), rollout=replace(attempt().rollout, phase=phase))
        assert stored(one)["stage"] == phase.value
        assert read_back(one).rollout.phase is phase


@pytest.mark.parametrize("text", [*FinishReason, "content_filter", "eos_token", ""])
def test_a_finish_reason_keeps_its_text_also_where_a_teachers_endpoint_has_its_own(text: str) -> None:
    rollout = attempt().rollout
    completion = replace(rollout.completion, finish_reason=FinishReason(text))
    one = replace(attempt(), rollout=replace(rollout, completion=completion))
    assert stored(one)["finish_reason"] == text
    found = read_back(one).rollout.completion
    assert (found, found.finish_reason) == (completion, text)
    assert found.is_truncated is (text != "stop")
    assert pickle.loads(pickle.dumps(found)) == found, "completions cross processes"
    assert isinstance(found.finish_reason, FinishReason)
