"""Hinted Decoding as a stage: what it is asked, what is recorded, what stands in the records."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import ValidationError

from drsft.config import Analysis, Hinted, Mixing, Prompts, Rewrite, RunConfig
from drsft.policy.fake import FakePolicy, text_completion
from drsft.policy.hinted.protocol import Contexts
from drsft.policy.prompts import Prompter, load_prompter
from drsft.records import Completion, FinishReason, Outcome, Record, Sampling, Source
from drsft.rewrite.cascade import Recipe, rewrite_one
from drsft.rewrite.data_views import COLUMNS, hinted_record, view_of
from drsft.rewrite.hinted import HintedSetup, opened_turn
from drsft.run.tables import records_from_table, records_to_table
from tests.rewrite.test_cascade import PLAIN, PROBLEM, TextVerifier, recipe

HINTED = (7, 8)


class FakeDecoder:
    """Answers with one text and remembers what it was asked."""

    def __init__(self, text: str, finish_reason: FinishReason = FinishReason.STOP) -> None:
        self.text, self.finish_reason = text, finish_reason
        self.asked: list[tuple[Contexts, Mixing, Sampling]] = []

    async def decode(self, contexts: Contexts, mixing: Mixing, sampling: Sampling) -> list[Completion]:
        self.asked.append((contexts, mixing, sampling))
        return [text_completion(self.text, finish_reason=self.finish_reason)] * sampling.num_samples


def hinted_recipe(decoder: FakeDecoder, method: str = "hinted", **settings: Any) -> Recipe:
    prompter = SimpleNamespace(
        guided=lambda problem: (*HINTED, *map(ord, problem.demonstration)),
        continued=lambda prompt_ids, text: (*prompt_ids, *map(ord, text)),
    )
    hinted = Hinted.model_validate({"max_tokens": 64, "analysis": None, **settings})
    setup = HintedSetup(decoder=decoder, prompter=cast(Prompter, prompter), settings=hinted)
    return replace(recipe(method=method), hinted=setup)


def beside_recipe(decoder: FakeDecoder, **changes: Any) -> Recipe:
    return replace(recipe(hinted_beside=True, **changes), hinted=hinted_recipe(decoder).hinted)


def rewritten(own: str, guided: str, one: Recipe, analysis: str = "") -> Record:
    def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
        if tuple(prompt_ids[:2]) == HINTED:
            return text_completion(analysis)
        return text_completion(own if tuple(prompt_ids) == PLAIN else guided)

    return asyncio.run(rewrite_one(PROBLEM, FakePolicy(answer), TextVerifier(), one))


def test_it_takes_the_place_of_guided_resolving() -> None:
    decoder = FakeDecoder("right, hinted")
    record = rewritten("wrong", "right", hinted_recipe(decoder))
    assert record.source is Source.HINTED
    assert record.prompt_ids == PLAIN, "trained on the plain prompt, never on the hinted one"
    assert [a.rollout.phase for a in record.attempts] == ["self_align"] * 4 + ["hinted"]
    contexts, mixing, sampling = decoder.asked[0]
    assert contexts == Contexts(hinted_ids=(*HINTED, *map(ord, "two")), plain_ids=PLAIN)
    assert (mixing, sampling.temperature, sampling.top_p) == (Mixing(), 0.3, 0.95)
    assert records_from_table(records_to_table([record])) == [record]


def test_it_may_come_after_guided_resolving_and_is_not_asked_before_it_fails() -> None:
    decoder = FakeDecoder("right, hinted")
    both = hinted_recipe(decoder, "guided_then_hinted")
    assert rewritten("wrong", "right", both).source is Source.REWRITTEN
    assert rewritten("right", "right", both).source is Source.OWN
    assert decoder.asked == []
    assert rewritten("wrong", "wrong", both).source is Source.HINTED


@pytest.mark.parametrize("own", ["right", "wrong"])
@pytest.mark.parametrize("guided", ["right", "wrong"])
@pytest.mark.parametrize("hinted", ["right, hinted", "wrong", "two"])
def test_beside_guided_resolving_it_changes_nothing_that_is_kept(own: str, guided: str, hinted: str) -> None:
    beside = rewritten(own, guided, beside_recipe(FakeDecoder(hinted)))
    without = rewritten(own, guided, recipe())
    asked = [a for a in beside.attempts if a.rollout.phase == "hinted"]
    assert bool(asked) == (own == "wrong")
    assert replace(beside, attempts=without.attempts) == without
    assert beside.kept_attempt == without.kept_attempt


@pytest.mark.parametrize("own", ["right", "wrong"])
@pytest.mark.parametrize("guided", ["right", "wrong"])
@pytest.mark.parametrize("hinted", ["right, hinted", "wrong"])
@pytest.mark.parametrize("fallback", ["expert", "drop"])
def test_the_hinted_view_is_what_hinted_decoding_in_its_place_would_keep(
    own: str, guided: str, hinted: str, fallback: str
) -> None:
    beside = rewritten(own, guided, beside_recipe(FakeDecoder(hinted), fallback=fallback))
    alone = hinted_recipe(FakeDecoder(hinted))
    alone = replace(alone, rewrite=alone.rewrite.model_copy(update={"fallback": fallback}))
    expected = rewritten(own, guided, alone)
    found = hinted_record(beside, alone.rewrite, run_seed=0)
    assert replace(found, attempts=expected.attempts) == expected
    view = view_of(records_to_table([beside]), "hinted", alone.rewrite, run_seed=0)
    assert view.equals(records_to_table([found]).select(COLUMNS))


def test_the_other_views_hold_what_the_target_solved_alone_and_every_problem() -> None:
    records = records_to_table([rewritten(own, "right", recipe()) for own in ("right", "wrong")])
    rewrite = Rewrite(grounding=None)
    alone = view_of(records, "self_only", rewrite, run_seed=0)
    assert alone["source"].to_pylist() == ["own"]
    for data in ("expert", "rewritten"):
        assert view_of(records, data, rewrite, run_seed=0).equals(records.select(COLUMNS))


@pytest.mark.parametrize(
    ("text", "finish_reason", "outcome"),
    [
        ("wrong", "stop", Outcome.WRONG),
        ("right", "length", Outcome.TRUNCATED),
        ("right", "loop", Outcome.TRUNCATED),
    ],
)
def test_it_is_verified_like_any_sample(text: str, finish_reason: str, outcome: Outcome) -> None:
    record = rewritten("wrong", "wrong", hinted_recipe(FakeDecoder(text, FinishReason(finish_reason))))
    assert record.source is Source.EXPERT
    assert record.attempts[-1].verdict.outcome is outcome


def test_a_recipe_without_what_its_method_needs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"needs Recipe\.hinted; give a decoder"):
        rewritten("wrong", "wrong", recipe(method="hinted"))


def test_what_mentions_the_hint_is_refused() -> None:
    record = rewritten("wrong", "", hinted_recipe(FakeDecoder("right, as the reference solution shows")))
    assert record.source is Source.EXPERT
    assert record.attempts[-1].rejection is not None


def test_the_analysis_opens_the_hinted_turn_up_to_its_last_marker() -> None:
    decoder = FakeDecoder("right")
    one = hinted_recipe(decoder, analysis={"max_tokens": 32})
    record = rewritten("wrong", "", one, analysis="# Analyze\nso # CoT no\n# CoT\nold text")
    assert record.source is Source.HINTED
    opening = "# Analyze\nso # CoT no\n# CoT"
    assert decoder.asked[0][0].hinted_ids == (*HINTED, *map(ord, "two" + opening))
    analysis = record.attempts[4]
    assert (analysis.rollout.phase, analysis.is_accepted) == ("analysis", False)
    assert record.num_sampled_tokens > len(record.completion_ids)


def test_an_analysis_without_its_marker_is_recorded_and_nothing_is_decoded() -> None:
    decoder = FakeDecoder("right")
    record = rewritten("wrong", "", hinted_recipe(decoder, analysis={}), analysis="no heading")
    assert (record.source, decoder.asked) == (Source.EXPERT, [])
    assert record.attempts[-1].verdict.reason == "an analysis without '# CoT'"
    assert opened_turn("x", Analysis()) is None


def test_the_hinted_context_has_its_own_system_turn_and_the_targets_tokens() -> None:
    prompter = load_prompter("embedded", Prompts(plain="{question}", guided="{question}{demonstration}"))
    setup = HintedSetup.of(Hinted(), prompter, FakeDecoder(""))
    text = prompter.tokenizer.decode(setup.prompter.guided(PROBLEM))
    assert "# Analyze" in text
    assert "# Question:\n1+1?\n\n# Answer:\ntwo\n\n# CoT:" in text
    assert "\\boxed{}" in text, "one backslash"
    opened = setup.prompter.continued((1, 2), "so <|im_end|>")
    assert opened[:2] == (1, 2)
    assert prompter.end_of_turn_id not in opened


@pytest.mark.parametrize(
    ("hinted", "message"),
    [
        ({"prompt": "{question}"}, "must contain"),
        ({"mixing": {"schedule": {"kind": "piecewise", "low": 0.7, "high": 0.3}}}, "below high"),
        ({"mixing": {"schedule": {"kind": "cubic"}}}, "cubic"),
        ({"temperature": 0, "num_samples": 2}, "temperature 0"),
    ],
)
def test_mistakes_in_the_settings_are_named(hinted: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Rewrite.model_validate({"method": "hinted", "hinted": hinted})


def test_the_preset_is_the_method_and_its_length_is_checked() -> None:
    preset = Rewrite.model_validate({"preset": "hinted_decoding"})
    assert (preset.is_guided, preset.is_hinted, preset.hinted) == (False, True, Hinted())
    tree = {
        "name": "x",
        "problems": {"path": "p"},
        "target": {"model": "m", "max_model_len": 512},
        "rewrite": {
            "self_align": {"max_tokens": 9},
            "guided": {"max_tokens": 9},
            "hinted": {"max_tokens": 999},
        },
    }
    assert RunConfig.model_validate(tree).rewrite.hinted.max_tokens == 999, "not asked for, not checked"
    with pytest.raises(ValidationError, match="999"):
        RunConfig.model_validate({**tree, "rewrite": {**tree["rewrite"], "method": "hinted"}})  # type: ignore[dict-item]
