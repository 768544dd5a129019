"""Models whose embedding has more or fewer rows than the tokenizer has tokens, in real engines."""

import asyncio
from collections.abc import Sequence

import pytest
import torch
from transformers import AutoModelForCausalLM

from drsft.config import Engine, Mixing, Target
from drsft.errors import InputError, ModelError
from drsft.policy.hinted.protocol import Contexts
from drsft.policy.hinted.torch_engine import TorchHintedDecoder
from drsft.policy.hinted.vllm_engine import VLLMHintedDecoder
from drsft.policy.prompts import load_prompter
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.policy.vocabulary import ids_without_text
from drsft.records import Completion, Sampling
from tests.support.model_folders import save_random_model

NUM_TOKENS = 776  # of the embedded tokenizer, without a gap
END_OF_TURN_ID = 683
PROMPT = (685, 335, 198, 71, 72, 683)
SAMPLING = Sampling(num_samples=4, temperature=1.0, max_tokens=48, seed=3)


def target(tmp_path_factory: pytest.TempPathFactory, num_embeddings: int) -> Target:
    model = save_random_model(tmp_path_factory.mktemp("model"), num_embeddings=num_embeddings)
    engine = Engine(max_num_seqs=16, kv_cache_mib=16, enforce_eager=True)
    return Target(model=model, dtype="float32", max_model_len=128, engine=engine)


@pytest.fixture(scope="module")
def padded(tmp_path_factory: pytest.TempPathFactory) -> Target:
    """A quarter of the embedding belongs to no token."""
    return target(tmp_path_factory, 1024)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Target:
    """The tokenizer's last 76 tokens have no embedding; the template's have."""
    return target(tmp_path_factory, 700)


def masked_logprobs(target: Target, completion: Completion) -> tuple[torch.Tensor, float]:
    """Of each token under the model with the padding ruled out, and the padding's share without that."""
    model = AutoModelForCausalLM.from_pretrained(target.model, dtype=torch.float32)
    ids = torch.tensor([[*PROMPT, *completion.token_ids]])
    with torch.no_grad():
        logits_TV = model(ids, use_cache=False).logits[0, len(PROMPT) - 1 : -1]
    share = float(logits_TV.softmax(-1)[:, NUM_TOKENS:].sum(-1).mean())
    logprobs_TV = logits_TV[:, :NUM_TOKENS].log_softmax(-1)
    return logprobs_TV.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0], share


def test_ids_without_text_are_those_behind_the_tokenizer(padded: Target) -> None:
    tokenizer = load_prompter(padded.model, padded.prompts).tokenizer
    assert ids_without_text(tokenizer, 1024) == tuple(range(NUM_TOKENS, 1024))
    assert ids_without_text(tokenizer, NUM_TOKENS) == ids_without_text(tokenizer, 700) == ()


def test_two_ids_of_one_token_both_have_text() -> None:
    class Doubled:
        """A byte-level vocabulary may spell two ids alike; id 2 is its unknown token's."""

        unk_token = "<unk>"
        tokens = ("a", "a", "<unk>", "b")

        def get_vocab(self) -> dict[str, int]:
            return {token: token_id for token_id, token in enumerate(self.tokens)}

        def convert_ids_to_tokens(self, token_id: int) -> str:
            return self.tokens[token_id] if token_id != 5 else self.unk_token  # 4 raises IndexError

    assert ids_without_text(Doubled(), 6) == (4, 5)


@pytest.mark.engine
def test_padding_is_never_sampled_and_log_probs_are_those_without_it(padded: Target) -> None:
    with VLLMPolicy(padded, load_prompter(padded.model, padded.prompts)) as policy:
        completions = asyncio.run(policy.generate(PROMPT, SAMPLING))
    assert sum(len(one.token_ids) for one in completions) > 100
    for completion in completions:
        assert max(completion.token_ids) < NUM_TOKENS
        expected_T, share = masked_logprobs(padded, completion)
        assert share > 0.1, "or nothing was shown"
        torch.testing.assert_close(
            torch.tensor(completion.behaviour_logprobs_T), expected_T, atol=1e-4, rtol=0
        )


@pytest.mark.engine
def test_padding_is_never_drawn_for_a_pair_either(padded: Target) -> None:
    prompter = load_prompter(padded.model, padded.prompts)
    contexts = Contexts(hinted_ids=(*PROMPT, 71), plain_ids=PROMPT)

    async def both(decoder: VLLMHintedDecoder | TorchHintedDecoder) -> Sequence[Completion]:
        return await decoder.decode(contexts, Mixing(loop_guard=None), SAMPLING)

    found = []
    with VLLMHintedDecoder(padded, prompter) as vllm_decoder:
        found.append(asyncio.run(both(vllm_decoder)))
    with TorchHintedDecoder(padded, prompter) as torch_decoder:
        found.append(asyncio.run(both(torch_decoder)))
    for completions in found:
        assert sum(len(one.token_ids) for one in completions) > 100
        assert max(token for one in completions for token in one.token_ids) < NUM_TOKENS
    assert [one.token_ids for one in found[0]] == [one.token_ids for one in found[1]]


@pytest.mark.engine
@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        ((*PROMPT, 775), "token id 775, and the model's embedding has 700 rows"),
        ((), "the engine rejected a request: .*cannot be empty"),
    ],
    ids=["beyond the embedding", "refused by vLLM"],
)
@pytest.mark.parametrize("is_hinted", [False, True])
def test_a_request_with_a_fault_ends_in_a_line_and_leaves_its_neighbours_alone(
    cut: Target, prompt: tuple[int, ...], line: str, is_hinted: bool
) -> None:
    prompter = load_prompter(cut.model, cut.prompts)

    async def check(decoder: VLLMHintedDecoder) -> None:
        async def ask(ids: tuple[int, ...]) -> Sequence[Completion]:
            if is_hinted:
                return await decoder.decode(Contexts(hinted_ids=ids, plain_ids=PROMPT), Mixing(), SAMPLING)
            return await decoder.policy.generate(ids, SAMPLING)

        alone = await ask(PROMPT)
        async with asyncio.timeout(60):
            before, faulty, after = await asyncio.gather(
                ask(PROMPT), ask(prompt), ask(PROMPT), return_exceptions=True
            )
        assert before == after == alone
        assert isinstance(faulty, InputError)
        with pytest.raises(InputError, match=line):
            raise faulty
        assert "\n" not in str(faulty)
        assert decoder.policy.num_pending == 0
        decoder.policy.check(max_silence_s=30)

    with VLLMHintedDecoder(cut, prompter) as decoder:
        asyncio.run(check(decoder))


def test_an_end_of_turn_beyond_the_embedding_is_rejected_before_an_engine_starts(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    small = target(tmp_path_factory, END_OF_TURN_ID)
    with pytest.raises(ModelError, match=f"id {END_OF_TURN_ID}, which is beyond the {END_OF_TURN_ID} rows"):
        load_prompter(small.model, small.prompts)


@pytest.mark.engine
def test_an_engine_that_was_given_such_an_end_of_turn_answers_each_request_in_a_line(
    tmp_path_factory: pytest.TempPathFactory, padded: Target
) -> None:
    small = target(tmp_path_factory, END_OF_TURN_ID)
    prompter = load_prompter(padded.model, padded.prompts)  # of a model that has the id
    assert prompter.end_of_turn_id == END_OF_TURN_ID

    async def ask(policy: VLLMPolicy) -> list[BaseException | list[Completion]]:
        async with asyncio.timeout(60):
            return await asyncio.gather(
                *(policy.generate((71, 72), SAMPLING) for _ in range(3)), return_exceptions=True
            )

    with VLLMPolicy(small, prompter) as policy:
        for result in asyncio.run(ask(policy)):
            assert isinstance(result, InputError)
            assert str(END_OF_TURN_ID) in str(result)
            assert "\n" not in str(result)
        policy.check(max_silence_s=30)
