"""The model wrapped for training: isolation of packed segments, and gradients equal to the definition."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.distributed.fsdp import FSDPModule
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    FalconMambaConfig,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
    MistralConfig,
    PhimoeConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
)

from drsft.config import Dft, Objective, Sft, Train
from drsft.errors import ModelError
from drsft.objectives.meters import metrics_of
from drsft.train.attention import (
    DocumentSpans,
    attend_by_document,
    document_attention,
    flash_takes,
    limits_are_known,
)
from drsft.train.model import ScoringModel, load_model, shard
from drsft.train.pack import PackedRows, pack
from drsft.train.step import accumulate_gradient
from drsft.train.world import World
from tests.support.train import (
    END_OF_TURN,
    VOCAB,
    make_examples,
    make_rows,
    oracle_gradients,
    save_tiny_model,
    scored,
)

NUM_EXAMPLES = 14


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def location(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("model"), tied=request.param)


def gradients(
    location: str, objective: Objective, *, seq_len: int = 32, **options: object
) -> dict[str, torch.Tensor]:
    train = Train.model_validate({"batch_rows": 64, **options})
    model = ScoringModel(
        load_model(location).train(), activation_checkpointing=train.activation_checkpointing
    )
    rows = pack(make_examples(NUM_EXAMPLES), seq_len=seq_len)
    indices = list(range(len(rows)))
    accumulate_gradient(model, indices, objective=objective, train=train, rows=rows, world=World())
    named = model.named_parameters()
    return {name.removeprefix("causal_lm."): p.grad for name, p in named if p.grad is not None}


def scored_alone(causal_lm: Any, rows: PackedRows) -> torch.Tensor:
    """The definition: each document by itself, with the model's whole logits."""
    documents = rows.documents(range(len(rows)))
    parts = []
    ids, masks = torch.from_numpy(documents.input_ids_T).long(), torch.from_numpy(documents.loss_mask_T)
    for ids_T, mask_T in zip(ids.split(documents.lengths), masks.split(documents.lengths), strict=True):
        with torch.no_grad():
            logp_TV = causal_lm(ids_T[None], use_cache=False).logits[0].log_softmax(-1)
        places = mask_T.nonzero()[:, 0]
        parts.append(logp_TV[places - 1, ids_T[places]])
    return torch.cat(parts)


def test_packed_rows_score_as_each_example_alone(location: str) -> None:
    rows = make_rows(NUM_EXAMPLES)
    assert len(rows) < NUM_EXAMPLES
    want = scored_alone(load_model(location), rows)
    model = ScoringModel(load_model(location))
    assert model.attends_by_document
    torch.testing.assert_close(scored(model, rows), want, rtol=0, atol=1e-5)


FAMILIES = {  # what the usual trick of restarted positions gets wrong, or a custom attention would leave out
    "llama": LlamaConfig(num_key_value_heads=1),
    "mistral, sliding window": MistralConfig(num_key_value_heads=1, sliding_window=4),
    "qwen3": Qwen3Config(num_key_value_heads=1, head_dim=8),
    "gemma2, capped scores": Gemma2Config(num_key_value_heads=1, head_dim=8, attn_logit_softcapping=0.5),
    "gpt2, learnt positions": GPT2Config(n_embd=16, n_layer=2, n_head=2, resid_pdrop=0, embd_pdrop=0),
    "mamba, a state": MambaConfig(state_size=4),
    # Windows shorter than a document of the test and longer than all that a model is tried on:
    "phimoe, a window in its mask alone": PhimoeConfig(
        num_key_value_heads=1, sliding_window=6, num_local_experts=4
    ),
    "qwen2 moe, likewise": Qwen2MoeConfig(
        num_key_value_heads=1, sliding_window=6, use_sliding_window=True, num_experts=4,
        moe_intermediate_size=24, shared_expert_intermediate_size=24,
    ),
}  # fmt: skip


def tiny(config: Any) -> Any:
    config.update({"vocab_size": VOCAB, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2})
    config.update({"intermediate_size": 24, "initializer_range": 0.3, "final_logit_softcapping": None})
    config.update({"eos_token_id": END_OF_TURN, "bos_token_id": None, "pad_token_id": 0})
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("name", FAMILIES)
def test_documents_are_kept_apart_in_every_kind_of_model(name: str) -> None:
    causal_lm = tiny(FAMILIES[name]).eval()
    rows = make_rows(NUM_EXAMPLES)
    want = scored_alone(causal_lm, rows)
    torch.testing.assert_close(scored(ScoringModel(causal_lm), rows), want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("activation_checkpointing", [False, True])
def test_all_layers_of_a_forward_share_the_offsets_of_its_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, activation_checkpointing: bool
) -> None:
    model = ScoringModel(
        load_model(save_tiny_model(tmp_path)).train(), activation_checkpointing=activation_checkpointing
    )
    seen: list[DocumentSpans] = []

    def noted(*args: Any, document_spans: DocumentSpans, **kwargs: Any) -> Any:
        seen.append(document_spans)
        return document_attention(*args, document_spans=document_spans, **kwargs)

    monkeypatch.setitem(
        AttentionInterface._global_mapping, model.causal_lm.config._attn_implementation, noted
    )
    rows = make_rows(NUM_EXAMPLES)
    train = Train(batch_rows=64, micro_batch_rows=1)
    accumulate_gradient(model, range(len(rows)), objective=Sft(), train=train, rows=rows, world=World())
    num_layers = model.causal_lm.config.num_hidden_layers
    assert len(seen) == len(rows) * num_layers * (2 if activation_checkpointing else 1)
    assert len({id(spans.edges) for spans in seen}) == len(rows)
    ends = [[end for _, end in spans.bounds] for spans in seen]
    assert [spans.edges.tolist() for spans in seen] == [[0, *one] for one in ends]


def test_a_model_whose_heads_do_not_divide_its_size_is_refused_in_a_line(tmp_path: Path) -> None:
    location = save_tiny_model(tmp_path, num_heads=5)
    with pytest.raises(ModelError, match=r"cannot be run on 4 tokens: .*config\.json") as found:
        ScoringModel(load_model(location))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("kinds", "sliding_window", "given", "are_known"),
    [
        (None, None, {None}, True),
        (None, 4096, {4096}, True),
        (None, 4096, {None}, False),
        (None, 4096, set(), False),
        (None, 0, {None}, True),  # how some configurations say that there is none
        (["full_attention"], 4096, {None}, True),
        (["full_attention", "sliding_attention"], 4096, {None, 4096}, True),
        (["full_attention", "sliding_attention"], 4096, {None}, False),
        (["chunked_attention"], None, {None}, False),
    ],
)
def test_a_limit_that_the_attention_is_not_told_of_makes_it_unfit(
    kinds: list[str] | None, sliding_window: int | None, given: set[int | None], are_known: bool
) -> None:
    config = SimpleNamespace(layer_types=kinds, sliding_window=sliding_window)
    assert limits_are_known(config, given) is are_known


def test_a_window_that_the_attention_is_told_of_keeps_the_fast_path() -> None:
    size = {"vocab_size": VOCAB, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    size |= {"num_attention_heads": 2, "num_key_value_heads": 1}
    for config in (
        MistralConfig(**size, sliding_window=4096),
        Qwen2Config(**size, use_sliding_window=True, max_window_layers=1),
        Qwen2MoeConfig(**size, num_experts=2, num_experts_per_tok=1),
    ):
        assert attend_by_document(AutoModelForCausalLM.from_config(config)), type(config).__name__


@pytest.mark.parametrize(
    ("sizes", "fits"),
    [((64, 64, 64), True), ((256, 256, 256), True), ((192, 192, 128), False), ((512, 512, 512), False),
     ((20, 20, 20), False)],
)  # fmt: skip
def test_flash_takes_heads_of_one_size_up_to_256(sizes: tuple[int, int, int], fits: bool) -> None:
    query, key, value = (torch.empty(1, 2, 3, size) for size in sizes)
    assert flash_takes(query, key, value) is fits


@pytest.mark.parametrize("objective", [Sft(), Dft()], ids=lambda objective: objective.kind)
@pytest.mark.parametrize(
    "options",
    [
        {"micro_batch_rows": 1},
        {"micro_batch_rows": 2},
        {"micro_batch_rows": 4},
        {"micro_batch_rows": 64},
        {"micro_batch_rows": 3, "seq_len": 22},  # hardly any packing
        {"micro_batch_rows": 2, "seq_len": 100},
        {"micro_batch_rows": 2, "activation_checkpointing": True},
    ],
    ids=str,
)
def test_gradient_equals_the_definition_for_any_split(
    location: str, objective: Objective, options: dict[str, object]
) -> None:
    want = oracle_gradients(
        load_model(location), make_examples(NUM_EXAMPLES), is_dft=isinstance(objective, Dft)
    )
    got = gradients(location, objective, **options)
    assert got.keys() == want.keys()
    for name, gradient in want.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def sharded(
    causal_lm: Any, *, compute_dtype: torch.dtype = torch.float32, by_block: bool = False
) -> ScoringModel:
    model = ScoringModel(causal_lm.train())
    shard(model, World(), compute_dtype=compute_dtype, by_block=by_block)
    return model


def loss_and_norm(model: ScoringModel) -> tuple[float, float]:
    """Of the gradient."""
    rows, train = make_rows(NUM_EXAMPLES), Train(batch_rows=64, micro_batch_rows=2)
    indices = list(range(len(rows)))
    sums, norm = accumulate_gradient(model, indices, objective=Sft(), train=train, rows=rows, world=World())
    return metrics_of(sums)["ce"], norm


STATES = {  # their hidden states are fp32 in half precision too, unlike their heads
    "mamba": MambaConfig(state_size=4),
    "mamba2": Mamba2Config(hidden_size=16, state_size=4, num_heads=2, head_dim=16, n_groups=1),
    "falcon mamba": FalconMambaConfig(state_size=4),
}


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("name", STATES)
def test_hidden_states_of_another_precision_than_the_heads_are_learnt_from(name: str) -> None:
    whole = loss_and_norm(ScoringModel(tiny(STATES[name]).train()))
    half = loss_and_norm(sharded(tiny(STATES[name]), compute_dtype=torch.bfloat16))
    assert half == pytest.approx(whole, rel=0.02)


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("name", STATES)
def test_a_block_that_lies_in_another_is_sharded_with_it(name: str) -> None:
    """Mamba names its blocks and the mixers in them."""
    model = sharded(tiny(STATES[name]), by_block=True)
    assert sum(isinstance(module, FSDPModule) for module in model.modules()) == 2 + 1, "layers and the root"
    assert loss_and_norm(model) == pytest.approx(loss_and_norm(sharded(tiny(STATES[name]))), rel=1e-5)


def test_end_of_turn_is_learnt(location: str) -> None:
    rows = make_rows(NUM_EXAMPLES)
    assert (rows.input_ids_T[rows.loss_mask_T] == END_OF_TURN).sum() == NUM_EXAMPLES


def test_master_weights_are_fp32_whatever_the_file_holds(tmp_path: Path) -> None:
    load_model(save_tiny_model(tmp_path / "a")).to(torch.bfloat16).save_pretrained(tmp_path / "b")
    assert {p.dtype for p in load_model(str(tmp_path / "b")).parameters()} == {torch.float32}


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere.*no such folder"):
        load_model(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"empty.*cannot be loaded"):
        load_model(str(tmp_path / "empty"))
