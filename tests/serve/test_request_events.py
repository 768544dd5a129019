"""A request's events become those of its stream, with all of the text, and its times are added up rightly."""

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from drsft.config import Target
from drsft.policy.fake import text_completion
from drsft.policy.prompts import target_prompter
from drsft.records import Attempt, Outcome, Phase, Rollout, Verdict
from serve.request_events import RequestEvents
from tests.support.templates import FAMILIES, folder_of

VERDICT = Verdict(outcome=Outcome.WRONG, reason="another number", answer="3")


def decode(token_ids: Sequence[int]) -> str:
    """One byte a token, as byte-level tokenizers have for what they do not know."""
    return bytes(token_ids).decode("utf-8", "replace")


def attempt(phase: Phase, sample_index: int) -> Attempt:
    rollout = Rollout(
        phase=phase, sample_index=sample_index, seed=0, prompt_hash="", completion=text_completion("x")
    )
    return Attempt(rollout=rollout, verdict=VERDICT)


class Clock:
    """Moves on by a random time with every event; the times at which samples began, ended and were judged."""

    def __init__(self, draw: random.Random) -> None:
        self._draw, self.now_s = draw, 0.0
        self.begun_s: dict[int, float] = {}
        self.ended_s: dict[int, float] = {}
        self.judged_s: dict[int, float] = {}

    def move_on(self) -> float:
        self.now_s += self._draw.randrange(1, 9)
        return self.now_s


def some_order(draw: random.Random, num_samples: int) -> Iterator[tuple[str, int]]:
    """Samples that begin, end and are judged side by side, some after all others are done."""
    todo = {index: ["begun", "ended", "judged"] for index in range(num_samples)}
    while todo:
        index = draw.choice(sorted(todo)[:3])
        yield todo[index].pop(0), index
        if not todo[index]:
            del todo[index]


@pytest.mark.parametrize("seed", range(30))
def test_times_are_those_of_samples_in_an_engine_and_of_verdicts(seed: int) -> None:
    draw = random.Random(seed)
    clock = Clock(draw)
    events = RequestEvents(decode, None, clock_s=lambda: clock.now_s)
    for name, index in some_order(draw, 7):
        now_s = clock.move_on()
        match name:
            case "begun":
                clock.begun_s[index] = now_s
                events.sample_begun(Phase.GUIDED, index)
            case "ended":
                clock.ended_s[index] = now_s
                events.sample_ended(Phase.GUIDED, index)
            case "judged":
                clock.judged_s[index] = now_s
                events.attempt_judged(attempt(Phase.GUIDED, index))
    at_work = [range(int(clock.begun_s[i]), int(clock.ended_s[i])) for i in clock.begun_s]
    assert events.sampling_s == len({second for span in at_work for second in span})
    assert events.verifying_s == sum(clock.judged_s[i] - clock.ended_s[i] for i in clock.ended_s)


@pytest.mark.parametrize("seed", range(10))
def test_the_pieces_of_a_sample_are_its_text_and_come_before_its_verdict(seed: int) -> None:
    draw = random.Random(seed)
    sent: list[tuple[str, dict[str, Any]]] = []
    events = RequestEvents(decode, lambda kind, data: sent.append((kind, data)))
    texts = {index: f"Sample {index}: 2 × 3 = 6 ✓, 日本語 🦊" for index in range(3)}
    events.phase_begun(Phase.SELF_ALIGN)
    for index in texts:
        events.sample_begun(Phase.SELF_ALIGN, index)
    for index, text in texts.items():
        data = text.encode()
        cuts = sorted({0, len(data), *draw.sample(range(len(data)), 6)})
        for start, end in pairwise(cuts):
            events.tokens_sampled(Phase.SELF_ALIGN, index, tuple(data[start:end]))
        events.sample_ended(Phase.SELF_ALIGN, index)
        events.attempt_judged(attempt(Phase.SELF_ALIGN, index))
    assert sent[0] == ("stage", {"stage": "self_align"})
    assert [data["sample_index"] for kind, data in sent if kind == "attempt"] == [0, 1, 2]
    for index, text in texts.items():
        of_sample = [(kind, data) for kind, data in sent if data.get("sample_index") == index]
        assert "".join(data["text"] for kind, data in of_sample if kind == "tokens") == text
        assert all(data["stage"] == "self_align" for _, data in of_sample)
        assert of_sample[-1] == (
            "verdict",
            {"stage": "self_align", "sample_index": index, "outcome": "wrong", "reason": "another number"},
        )


@pytest.mark.parametrize("name", ["open thought, kept", "empty thought", "header", "brackets"])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_streams_thought_and_answer_are_those_of_the_record(name: str, size: int, tmp_path: Path) -> None:
    prompter = target_prompter(Target(model=str(folder_of(tmp_path, FAMILIES[name]))))
    sent: list[tuple[str, dict[str, Any]]] = []
    events = RequestEvents(
        prompter.decode, lambda kind, data: sent.append((kind, data)), part_stream=prompter.part_stream
    )
    ids = prompter.written("日本語 7 🦊", "3, then 4 ✓")
    events.sample_begun(Phase.GUIDED, 0)
    for start in range(0, len(ids), size):
        events.tokens_sampled(Phase.GUIDED, 0, ids[start : start + size])
    events.sample_ended(Phase.GUIDED, 0)
    texts = {"thought": "", "answer": ""}
    for kind, data in sent:
        if kind == "tokens":
            texts["answer"] *= data["part"] == "answer"
            texts[data["part"]] += data["text"]
    answer, thought = prompter.read(ids)
    assert thought is not None
    assert (texts["thought"].strip(), texts["answer"].strip()) == (thought.text, answer)


def test_tokens_are_wanted_where_somebody_listens() -> None:
    assert RequestEvents(decode, lambda kind, data: None).wants_tokens
    assert not RequestEvents(decode, None).wants_tokens
