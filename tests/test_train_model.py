"""The model wrapped for training: isolation of packed segments, and gradients equal to the definition."""

from pathlib import Path

import pytest
import torch
from train_support import END_OF_TURN, make_examples, make_rows, oracle_gradients, save_tiny_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from drsft.config import Dft, Objective, Sft, Train
from drsft.errors import ModelError
from drsft.train.model import ScoringModel, load_model
from drsft.train.pack import pack
from drsft.train.step import accumulate_gradient
from drsft.train.world import World

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


def test_packed_rows_score_as_each_example_alone(location: str) -> None:
    causal_lm = load_model(location)
    rows = make_rows(NUM_EXAMPLES)
    examples = {example.problem_id: example for example in make_examples(NUM_EXAMPLES)}
    assert max(map(len, rows.problem_ids)) > 1
    with torch.no_grad():
        packed = ScoringModel(causal_lm)(
            torch.from_numpy(rows.input_ids_BT).long(),
            torch.from_numpy(rows.position_ids_BT).long(),
            torch.from_numpy(rows.loss_mask_BT),
        )
        alone = []
        for problem_id in (one for row in rows.problem_ids for one in row):
            example = examples[problem_id]
            ids_T = torch.from_numpy(example.input_ids_T).long()
            logp_TV = causal_lm(ids_T[None], use_cache=False).logits[0].log_softmax(-1)
            label_places = torch.from_numpy(example.loss_mask_T).nonzero()[:, 0]
            alone.append(logp_TV[label_places - 1, ids_T[label_places]])
    torch.testing.assert_close(packed.logprobs_T, torch.cat(alone), rtol=0, atol=1e-5)


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


def test_end_of_turn_is_learnt(location: str) -> None:
    rows = make_rows(NUM_EXAMPLES)
    assert (rows.input_ids_BT[rows.loss_mask_BT] == END_OF_TURN).sum() == NUM_EXAMPLES


def test_master_weights_are_fp32_whatever_the_file_holds(tmp_path: Path) -> None:
    load_model(save_tiny_model(tmp_path / "a")).to(torch.bfloat16).save_pretrained(tmp_path / "b")
    assert {p.dtype for p in load_model(str(tmp_path / "b")).parameters()} == {torch.float32}


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere.*no such folder"):
        load_model(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"empty.*cannot be loaded"):
        load_model(str(tmp_path / "empty"))


def test_a_head_with_a_bias_is_refused() -> None:
    causal_lm = Qwen2ForCausalLM(
        Qwen2Config(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                    num_attention_heads=1, num_key_value_heads=1)
    )  # fmt: skip
    causal_lm.lm_head.bias = torch.nn.Parameter(torch.zeros(8))
    with pytest.raises(ModelError, match="bias"):
        ScoringModel(causal_lm)
