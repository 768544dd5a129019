"""`train.thoughts` leaves thoughts out of the loss or weighs them; the answers are learnt as before."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drsft.config import Arm, Dft, Prompts, RunConfig, Sft, Target, Train
from drsft.errors import ModelError, StageError
from drsft.objectives.meters import metrics_of
from drsft.policy.prompts import Prompter
from drsft.records import Problem
from drsft.run import layout
from drsft.run.run import Run
from drsft.stages.preparing import plan_run
from drsft.stages.turn import run_prompter, thought_length
from drsft.storage import LocalStore
from drsft.train.encode import Example, encode
from drsft.train.model import ScoringModel, load_model
from drsft.train.pack import PackedRows, pack
from drsft.train.packed_data import pack_data, read_packed
from drsft.train.step import accumulate_gradient
from drsft.train.world import World
from tests.support.templates import FAMILIES, folder_of
from tests.support.train import END_OF_TURN, RECORDS_SCHEMA, SEQ_LEN, save_tiny_model
from tests.train.test_loop import TRAIN, KilledError, run

Thoughts = Literal["keep", "mask"] | float
CLOSE = 2  # no text of the records below has it
THINKING = ("open thought, kept", "empty thought", "header", "end that closes thoughts, too", "brackets")
TEXT = st.lists(st.integers(3, 60), min_size=1, max_size=6)
ROWS = st.lists(st.tuples(TEXT, st.none() | st.lists(st.integers(3, 60), max_size=6), TEXT), min_size=1)


def up_to_close(completion_ids: Sequence[int]) -> int:
    return list(completion_ids).index(CLOSE) + 1 if CLOSE in completion_ids else 0


def records_of(rows: Sequence[tuple[list[int], list[int] | None, list[int]]]) -> pa.Table:
    """Prompts, thoughts (None: there is none) and answers."""
    return table_of(
        [
            (prompt, [*([] if thought is None else [*thought, CLOSE]), *answer, END_OF_TURN])
            for prompt, thought, answer in rows
        ]
    )


def table_of(rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> pa.Table:
    found = [
        {
            "problem_id": f"p{index:03}",
            "source": "own",
            "prompt_ids": prompt,
            "completion_ids": completion,
            "expert_completion_ids": completion,
        }
        for index, (prompt, completion) in enumerate(rows)
    ]
    return pa.Table.from_pylist(found, schema=RECORDS_SCHEMA)


def rows_of(records: pa.Table, train: Train, *, packing: bool = True) -> PackedRows:
    are_masked = train.thought_weight == 0
    encoding = encode(
        records, data="rewritten", seq_len=SEQ_LEN, thought_length=up_to_close, are_masked=are_masked
    )
    return pack(encoding.examples, seq_len=SEQ_LEN, one_a_row=not packing)


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


def slow_gradients(
    location: str, records: pa.Table, *, is_dft: bool, thought_weight: float
) -> dict[str, torch.Tensor]:
    """Text by text, unpacked: the mean over all tokens, a thought's weighted, an answer's not."""
    causal_lm = load_model(location)
    losses, shares = [], []
    for row in records.to_pylist():
        ids_T = torch.tensor(row["prompt_ids"] + row["completion_ids"])
        answer_begin = len(row["prompt_ids"]) + up_to_close(row["completion_ids"])
        logp_TV = causal_lm(ids_T[None], use_cache=False).logits[0].log_softmax(-1)
        for place in range(len(row["prompt_ids"]), len(ids_T)):
            logp = logp_TV[place - 1, ids_T[place]]
            shares.append(1.0 if place >= answer_begin else thought_weight)
            losses.append(-logp * (logp.detach().exp() if is_dft else 1) * shares[-1])
    (torch.stack(losses).sum() / sum(shares)).backward()
    return {name: p.grad for name, p in causal_lm.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("thoughts", ["mask", 0.3, "keep"])
@pytest.mark.parametrize("objective", [Sft(), Dft()], ids=["sft", "dft"])
@settings(max_examples=8, deadline=None)
@given(rows=ROWS, packing=st.booleans())
def test_the_gradient_is_that_of_the_weighted_mean_over_thoughts_and_answers(
    location: str,
    objective: Sft | Dft,
    thoughts: Thoughts,
    rows: list[tuple[list[int], list[int] | None, list[int]]],
    packing: bool,
) -> None:
    records = records_of(rows)
    train = Train(batch_rows=64, thoughts=thoughts)
    packed = rows_of(records, train, packing=packing)
    model = ScoringModel(load_model(location).train())
    accumulate_gradient(
        model,
        list(range(len(packed))),
        objective=objective,
        train=train,
        rows=packed,
        world=World(),
    )
    found = {name.removeprefix("causal_lm."): p.grad for name, p in model.named_parameters()}
    want = slow_gradients(
        location, records, is_dft=isinstance(objective, Dft), thought_weight=train.thought_weight
    )
    # Sums in float32 in another order: an element may be the small difference of large terms.
    atol = 1e-5 * max(float(gradient.abs().max()) for gradient in want.values())
    for name, gradient in want.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=atol)


@pytest.mark.parametrize("thoughts", ["mask", 0.3, "keep"])
def test_metrics_have_the_cross_entropy_of_each_part_that_is_learnt(
    location: str, thoughts: Thoughts
) -> None:
    """Over micro-batches that hold rows with and without a thought."""
    records = records_of([([5], [7, 8], [9]), ([5, 6], None, [10]), ([6], [], [11, 12])])
    train = Train(batch_rows=4, micro_batch_rows=1, thoughts=thoughts)
    rows = rows_of(records, train, packing=False)
    model = ScoringModel(load_model(location))
    indices = list(range(len(rows)))
    sums, _ = accumulate_gradient(model, indices, objective=Dft(), train=train, rows=rows, world=World())
    metrics = metrics_of(sums)
    losses: dict[str, list[float]] = {"thought": [], "answer": []}
    for row in records.to_pylist():
        ids_T = torch.tensor(row["prompt_ids"] + row["completion_ids"])
        logp_TV = load_model(location)(ids_T[None], use_cache=False).logits[0].log_softmax(-1)
        for place in range(len(row["prompt_ids"]), len(ids_T)):
            is_thought = place < len(row["prompt_ids"]) + up_to_close(row["completion_ids"])
            losses["thought" if is_thought else "answer"].append(-logp_TV[place - 1, ids_T[place]].item())
    means = {f"{part}_ce": sum(found) / len(found) for part, found in losses.items()}
    counts = {f"{part}_tokens": len(found) for part, found in losses.items()}
    expected = {} if thoughts == "mask" else means | counts
    found = {name: value for name, value in metrics.items() if name.startswith(("thought_", "answer_"))}
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("thoughts", ["mask", 0.3])
def test_resuming_equals_not_stopping_bit_for_bit(location: str, tmp_path: Path, thoughts: Thoughts) -> None:
    train = TRAIN.model_copy(update={"thoughts": thoughts})
    records = records_of(
        [([5, 6 + n], [7 + n % 5] * (n % 4) if n % 3 else None, [9 + n, 10]) for n in range(38)]
    )
    rows = rows_of(records, train)
    whole = run(location, tmp_path / "whole", train=train, rows=rows)
    with pytest.raises(KilledError):
        run(location, tmp_path / "resumed", train=train, rows=rows, die_after=3)
    assert run(location, tmp_path / "resumed", train=train, rows=rows) == whole
    weights = "export/model.safetensors"
    assert (tmp_path / "resumed" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()
    assert run(location, tmp_path / "kept", rows=rows_of(records, TRAIN)) != whole


@pytest.mark.parametrize(("word", "number"), [("mask", 0), ("keep", 1)])
def test_a_word_and_its_number_are_one_setting(word: Thoughts, number: float) -> None:
    assert Train(thoughts=number) == Train(thoughts=word)
    assert Train(thoughts=number).packing_fingerprint == Train(thoughts=word).packing_fingerprint


@pytest.mark.parametrize("weight", [-0.1, 1.5, float("nan")])
def test_a_weight_beyond_0_and_1_is_refused(weight: float) -> None:
    with pytest.raises(ValidationError):
        Train(thoughts=weight)


def test_rows_packed_before_thoughts_were_told_are_still_read() -> None:
    rows = rows_of(records_of([([5], [7], [8])]), Train(seq_len=SEQ_LEN))
    before = PackedRows.from_table(rows.to_table().drop_columns(["thought_mask"]))
    assert rows.thought_mask_T.sum() == 2
    assert not before.thought_mask_T.any()
    assert replace(before, thought_mask_T=rows.thought_mask_T).to_table().equals(rows.to_table())


def ids_of(examples: Sequence[Example]) -> list[list[int]]:
    return [one.input_ids_T.tolist() for one in examples]


def test_the_mask_changes_no_id_and_without_thoughts_nothing() -> None:
    records = records_of([([5, 6], [7, 8], [9]), ([5], None, [10, 11]), ([6], [], [12])])
    kept = encode(records, data="rewritten", seq_len=SEQ_LEN).examples
    masked = encode(records, data="rewritten", seq_len=SEQ_LEN, thought_length=up_to_close).examples
    assert ids_of(masked) == ids_of(kept)
    learnt = [one.input_ids_T[one.loss_mask_T].tolist() for one in masked]
    assert learnt == [[9, END_OF_TURN], [10, 11, END_OF_TURN], [12, END_OF_TURN]]


def test_a_text_without_an_answer_is_left_out_and_counted(tmp_path: Path) -> None:
    store, train = LocalStore(tmp_path), Train(seq_len=SEQ_LEN, thoughts="mask")
    records = table_of([([5], [7, CLOSE]), ([5], [7, CLOSE, 8, END_OF_TURN])])
    pack_data(store, records, "rewritten", train, thought_length=up_to_close)
    counts = json.loads(store.read(layout.packed_rows(train, "rewritten").commit))
    assert (counts["examples"], counts["loss_tokens"], counts["dropped_without_answer"]) == (1, 2, 1)
    assert read_packed(store, "rewritten", train).learnt.problem_ids == ("p001",)
    with pytest.raises(StageError, match=r"no expert text .* has an answer behind its thought \(1 have none"):
        pack_data(store, records.slice(0, 1), "expert", train, thought_length=up_to_close)


@pytest.mark.parametrize("family", THINKING)
def test_the_runs_turn_tells_the_thought_of_samples_and_experts(family: str, tmp_path: Path) -> None:
    model = str(folder_of(tmp_path / "model", FAMILIES[family]))
    target = Target(model=model, prompts=Prompts(plain="{question}"))
    store = LocalStore(tmp_path / "run")
    prompter = run_prompter(target, store)
    problem = Problem(problem_id="p", question="3 + 4?", demonstration="So 7.", reference="7")
    written = (prompter.written("It is 7.", "Maybe 5? No."), prompter.completion(problem.demonstration))
    records = table_of([(prompter.plain(problem), one) for one in written])
    config = RunConfig.model_validate(
        {"name": "n", "storage": str(tmp_path), "problems": {"path": "p.jsonl"}, "target": target,
         "train": {"thoughts": "mask"}}
    )  # fmt: skip
    examples = encode(
        records, data="rewritten", seq_len=512, thought_length=thought_length(config, store)
    ).examples
    learnt = [tuple(one.input_ids_T[one.loss_mask_T].tolist()) for one in examples]
    for whole, answer, text in zip(written, learnt, ("It is 7.", "So 7."), strict=True):
        assert whole[-len(answer) :] == answer
        assert answer[-1] == prompter.end_of_turn_id
        assert text in prompter.decode(answer)
        assert no_thought_in(prompter, answer)
    assert len(learnt[0]) < len(written[0])
    found = thought_length(config.model_copy(update={"train": Train()}), store)
    assert found is not None, "meters tell both parts apart where all is learnt, too"
    assert [found(whole) for whole in written] == [
        len(whole) - len(answer) for whole, answer in zip(written, learnt, strict=True)
    ]


def no_thought_in(prompter: Prompter, answer: Sequence[int]) -> bool:
    assert prompter.turn.thought is not None
    text = prompter.tokenizer.decode(answer)
    return prompter.turn.thought.close not in text and "Maybe" not in text


def test_keep_names_trainings_and_rows_as_before_and_mask_otherwise() -> None:
    arm = Arm(name="a")
    plain = Train()
    assert (plain.arm_fingerprint(arm), plain.packing_fingerprint) == ("28c9763f", "73b80ada")  # at 0.1.0
    assert "thoughts" not in plain.model_dump()
    assert Train(thoughts="keep").arm_fingerprint(arm) == plain.arm_fingerprint(arm)
    mask = Train(thoughts="mask")
    assert mask.arm_fingerprint(arm) != plain.arm_fingerprint(arm)
    assert layout.packed_rows(mask, "expert") != layout.packed_rows(plain, "expert")
    assert Train.model_validate_json(mask.model_dump_json()) == mask


def test_both_settings_keep_rows_of_their_own_in_one_run(tmp_path: Path) -> None:
    """So a run that is continued with the other setting reads no rows that were packed under the first."""
    store = LocalStore(tmp_path)
    records = records_of([([5], [7, 8, 9], [10])])
    keep, mask = Train(seq_len=SEQ_LEN), Train(seq_len=SEQ_LEN, thoughts="mask")
    pack_data(store, records, "rewritten", keep)
    before = store.read(layout.packed_rows(keep, "rewritten").commit)
    pack_data(store, records, "rewritten", mask, thought_length=up_to_close)
    assert store.read(layout.packed_rows(keep, "rewritten").commit) == before
    for train, num_learnt in ((keep, 6), (mask, 2)):
        assert read_packed(store, "rewritten", train).learnt.loss_mask_T.sum() == num_learnt


def test_a_template_without_thoughts_is_refused_before_anything_is_sampled(tmp_path: Path) -> None:
    target = Target(model=str(folder_of(tmp_path / "model", FAMILIES["plain"])))
    config = RunConfig.model_validate(
        {"name": "n", "storage": str(tmp_path), "problems": {"path": "none.jsonl"}, "target": target,
         "train": {"thoughts": "mask"}}
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"train\.thoughts: mask, .* marks no thoughts; set target\.thought"):
        plan_run(Run(LocalStore(tmp_path / "run"), config)).finish()
