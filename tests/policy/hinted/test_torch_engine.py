"""The torch engine: rows that enter and leave, models of several families, and the slow oracle's tokens."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import islice

import pytest
import torch
from transformers import AutoModelForCausalLM as AnyModel
from transformers import (
    BloomConfig,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    OPTConfig,
    PretrainedConfig,
)

from drsft.config import EMBEDDED_PROMPTS, Constant, Engine, Linear, Mixing, Target
from drsft.errors import InputError, StageError
from drsft.policy.hinted.attention import group_queries
from drsft.policy.hinted.kv_cache import CachedRows, RecomputedRows, compaction, rows_for
from drsft.policy.hinted.protocol import Contexts
from drsft.policy.hinted.torch_engine import TorchHintedDecoder
from drsft.policy.prompts import Prompter, load_prompter
from drsft.records import Completion, Problem, Sampling
from tests.base_model.task import Split, make_problems
from tests.support.hinted_oracle import Settings, decode_one, linear


def target(max_num_seqs: int = 14) -> Target:
    engine = Engine(max_num_seqs=max_num_seqs, kv_cache_mib=64, enforce_eager=True)
    return Target(
        model="embedded", dtype="float32", max_model_len=512, prompts=EMBEDDED_PROMPTS, engine=engine
    )


def greedy(**changes: float) -> Sampling:
    return Sampling(**{"num_samples": 1, "temperature": 0.0, "max_tokens": 96, "seed": 0, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def prompter() -> Prompter:
    return load_prompter("embedded", EMBEDDED_PROMPTS)


@pytest.fixture(scope="module")
def decoder(prompter: Prompter) -> Iterator[TorchHintedDecoder]:
    with TorchHintedDecoder(target(), prompter) as decoder:
        yield decoder


@pytest.fixture(scope="module")
def contexts(prompter: Prompter) -> list[Contexts]:
    found = []
    for one in islice(make_problems(Split.HELD_OUT, 50), 50):
        problem = Problem(
            problem_id=one.problem_id,
            question=one.question,
            demonstration=one.demonstration,
            reference=one.answer,
        )
        found.append(Contexts(hinted_ids=prompter.guided(problem), plain_ids=prompter.plain(problem)))
    return found


def decoded(
    decoder: TorchHintedDecoder,
    contexts: Sequence[Contexts],
    sampling: Sampling,
    mixing: Mixing | None = None,
) -> list[Completion]:
    async def gather() -> list[list[Completion]]:
        return await asyncio.gather(*(decoder.decode(one, mixing or Mixing(), sampling) for one in contexts))

    return [one for completions in asyncio.run(gather()) for one in completions]


def alone(
    decoder: TorchHintedDecoder, prompter: Prompter, one: Contexts, settings: Settings
) -> tuple[int, ...]:
    return tuple(
        decode_one(
            decoder.model, prompter.decode, one.hinted_ids, one.plain_ids, prompter.end_of_turn_id, settings
        )
    )


@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_it_gives_the_tokens_of_the_slow_reading(
    decoder: TorchHintedDecoder, prompter: Prompter, contexts: list[Contexts], temperature: float
) -> None:
    """Seven at a time of 24, so the others enter beside some that are half done."""
    sampling = greedy(temperature=temperature, top_p=0.95, seed=3)
    found = decoded(decoder, contexts[:24], sampling)
    settings = Settings(temperature=temperature, top_p=0.95, seed=3)
    for one, completion in list(zip(contexts, found, strict=False))[:4]:
        assert completion.token_ids == alone(decoder, prompter, one, settings)
        assert completion.finish_reason == "stop"


@pytest.mark.slow
def test_fifty_problems_are_those_of_the_slow_reading(
    decoder: TorchHintedDecoder, prompter: Prompter, contexts: list[Contexts]
) -> None:
    found = decoded(decoder, contexts, greedy())
    expected = [alone(decoder, prompter, one, Settings()) for one in contexts]
    assert [one.token_ids for one in found] == expected


def test_company_and_sample_count_change_nothing(
    decoder: TorchHintedDecoder, contexts: list[Contexts]
) -> None:
    sampling = greedy(temperature=1.0, seed=5)
    company = decoded(decoder, contexts[:20], sampling)
    assert decoded(decoder, contexts[9:10], sampling)[0].token_ids == company[9].token_ids
    several = decoded(decoder, contexts[9:10], greedy(temperature=1.0, seed=4, num_samples=3))
    assert several[1].token_ids == company[9].token_ids
    assert len({one.token_ids for one in several}) > 1


@pytest.mark.parametrize("is_hinted", [True, False])
def test_one_context_alone_is_that_prompts_plain_decoding(
    decoder: TorchHintedDecoder, prompter: Prompter, contexts: list[Contexts], is_hinted: bool
) -> None:
    schedule = Linear(beta=0) if is_hinted else Constant(weight=1)
    mixing = Mixing(schedule=schedule, hinted_first_token=False, answer_marker=None)
    found = decoded(decoder, contexts[:5], greedy(), mixing)
    for one, completion in zip(contexts, found, strict=False):
        prompt = one.hinted_ids if is_hinted else one.plain_ids
        ids = decoder.model.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=96, eos_token_id=prompter.end_of_turn_id
        )
        assert completion.token_ids == tuple(ids[0, len(prompt) :].tolist())


def test_log_probs_are_those_of_what_was_drawn_from(
    decoder: TorchHintedDecoder, contexts: list[Contexts]
) -> None:
    mixing = Mixing(schedule=Constant(weight=1), hinted_first_token=False)
    one = contexts[0]
    completion = decoded(decoder, [one], greedy(temperature=1.0, seed=8), mixing)[0]
    ids = torch.tensor([[*one.plain_ids, *completion.token_ids]])
    with torch.no_grad():
        logprobs_TV = (
            decoder.model(ids, use_cache=False).logits[0, len(one.plain_ids) - 1 : -1].log_softmax(-1)
        )
    expected = logprobs_TV.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(completion.behaviour_logprobs_T), expected, atol=1e-4, rtol=0)


def test_a_limit_cuts_off_and_a_prompt_that_does_not_fit_is_the_callers_mistake(
    decoder: TorchHintedDecoder, contexts: list[Contexts]
) -> None:
    cut = decoded(decoder, contexts[:1], greedy(max_tokens=3))[0]
    assert (cut.finish_reason, len(cut.token_ids)) == ("length", 3)
    long = Contexts(hinted_ids=(5,) * 510, plain_ids=(5,))
    assert len(decoded(decoder, [long], greedy())[0].token_ids) <= 2
    with pytest.raises(InputError, match="512"):
        decoded(decoder, [Contexts(hinted_ids=(5,) * 512, plain_ids=(5,))], greedy())


def test_contexts_beyond_the_embedding_end_in_a_line_and_leave_the_others_alone(
    decoder: TorchHintedDecoder, contexts: list[Contexts]
) -> None:
    wrong = Contexts(hinted_ids=(*contexts[0].hinted_ids, 776), plain_ids=contexts[0].plain_ids)

    async def together() -> list[list[Completion] | BaseException]:
        asked = (contexts[1], wrong, contexts[2])
        work = (decoder.decode(one, Mixing(), greedy()) for one in asked)
        return await asyncio.gather(*work, return_exceptions=True)

    before, faulty, after = asyncio.run(together())
    assert [before, after] == [[one] for one in decoded(decoder, contexts[1:3], greedy())]
    assert isinstance(faulty, InputError)
    assert "token id 776, and the model's embedding has 776 rows" in str(faulty)


def test_a_cancelled_problem_frees_its_rows(decoder: TorchHintedDecoder, contexts: list[Contexts]) -> None:
    async def cancel() -> None:
        tasks = [asyncio.create_task(decoder.decode(one, Mixing(), greedy())) for one in contexts]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(cancel())
    assert decoded(decoder, contexts[:1], greedy())[0].finish_reason == "stop"


def test_an_engine_that_dies_tells_every_waiter_and_everyone_after(
    prompter: Prompter, contexts: list[Contexts]
) -> None:
    with TorchHintedDecoder(target(), prompter) as dying:
        dying._loop.engine._rows.step = None  # type: ignore[assignment,method-assign]
        for _ in range(2):
            with pytest.raises(StageError, match="died"):
                decoded(dying, contexts[:3], greedy())


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 50}
FAMILIES: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SMALL, intermediate_size=64, num_key_value_heads=2),
    "sliding window": MistralConfig(**SMALL, intermediate_size=64, num_key_value_heads=2, sliding_window=6),
    "soft caps, both kinds of layer": Gemma2Config(
        **SMALL, intermediate_size=64, num_key_value_heads=2, head_dim=8, sliding_window=6
    ),
    "learned positions": GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50),
    "positions from the mask": OPTConfig(**SMALL, ffn_dim=64, word_embed_proj_dim=32),
    "alibi": BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=50),
    "state space": MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=50, state_size=4),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_that_come_and_go_have_the_logits_of_the_whole_text(family: str) -> None:
    torch.manual_seed(0)
    model = AnyModel.from_config(FAMILIES[family]).eval()
    group_queries(model)
    rows = rows_for(model)
    assert isinstance(rows, RecomputedRows if family == "state space" else CachedRows)
    generator = torch.Generator().manual_seed(1)
    texts = [torch.randint(3, 50, (length,), generator=generator).tolist() for length in (9, 2, 5)]
    logits = [rows.enter(texts)]
    for leaving, entering in (([], 0), ([1], 2), ([], 0), ([0, 2], 11), ([], 0), ([], 0)):
        if leaving:
            rows.leave(leaving)
            for place, mover in compaction(len(texts), leaving):
                texts[place] = texts[mover]
            del texts[len(texts) - len(leaving) :]
        tokens = torch.randint(3, 50, (len(texts),), generator=generator).tolist()
        texts = [[*text, token] for text, token in zip(texts, tokens, strict=True)]
        logits = [rows.step(tokens)]
        if entering:
            texts.append(torch.randint(3, 50, (entering,), generator=generator).tolist())
            logits.append(rows.enter(texts[-1:]))
        for found, text in zip(torch.cat(logits), texts, strict=True):
            with torch.no_grad():
                expected = model(torch.tensor([text]), use_cache=False).logits[0, -1]
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_compaction_keeps_who_stays() -> None:
    for num_rows in range(7):
        for code in range(2**num_rows):
            leaving = [row for row in range(num_rows) if code >> row & 1]
            rows = list(range(num_rows))
            for place, mover in compaction(num_rows, leaving):
                rows[place] = rows[mover]
            assert sorted(rows[: num_rows - len(leaving)]) == sorted(set(range(num_rows)) - set(leaving))


def test_schedules_reach_the_engine(
    decoder: TorchHintedDecoder, prompter: Prompter, contexts: list[Contexts]
) -> None:
    mixing = Mixing(schedule=Linear(beta=0.5), hinted_first_token=False, order="temperature_first")
    found = decoded(decoder, contexts[:2], greedy(temperature=0.8, top_p=0.8, seed=2), mixing)
    settings = Settings(
        weight_of=linear(0.5), temperature=0.8, top_p=0.8, temperature_first=True, hinted_first=False, seed=2
    )
    for one, completion in zip(contexts, found, strict=False):
        assert completion.token_ids == alone(decoder, prompter, one, settings)
