"""The bench of training: its data, and its own side."""

import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drsft.bench.training.train_data import (
    ModelShape,
    Work,
    draw_examples,
    read_examples,
    save_examples,
    save_model,
)
from drsft.errors import ConfigError, InputError

WORK = Work(
    num_steps=3,
    batch_examples=4,
    micro_batch_examples=2,
    seq_len=512,
    activation_checkpointing=False,
    num_threads=1,
)


def test_work_survives_its_file(tmp_path: Path) -> None:
    assert Work.read(str(WORK.write(tmp_path / "work.json"))) == WORK


def test_drawn_lengths_are_those_of_grade_school_problems() -> None:
    examples = draw_examples(num=2000)
    lengths = np.array([len(example.input_ids_T) for example in examples])
    learnt = np.array([example.loss_mask_T.sum() for example in examples])
    assert 110 < lengths.mean() < 180
    assert 0.45 < learnt.sum() / lengths.sum() < 0.75


@pytest.mark.parametrize(
    ("hidden_size", "is_refused"), [(576, True), (300, True), (192, False), (640, False)]
)
def test_hidden_sizes_that_heads_do_not_divide_are_refused_in_a_line(
    hidden_size: int, is_refused: bool
) -> None:
    if is_refused:
        with pytest.raises(ConfigError, match=f"hidden size {hidden_size} cannot .*give a multiple of 128$"):
            ModelShape(hidden_size=hidden_size)
    else:
        assert ModelShape(hidden_size=hidden_size).num_heads * 64 == hidden_size


@pytest.mark.parametrize("names", [("question", "answer"), ("problem", "solution")])
def test_rows_of_a_file_become_examples(tmp_path: Path, names: tuple[str, str]) -> None:
    path = tmp_path / "rows.jsonl.gz"
    rows = [{names[0]: f"What is {n} + {n}?", names[1]: f"It is {2 * n}."} for n in range(20)]
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    examples = read_examples(path, num=20)
    assert len(examples) == 20
    assert all(0 < example.loss_mask_T.sum() < len(example.input_ids_T) for example in examples)
    with pytest.raises(InputError, match="has 20 rows, but 21 are needed"):
        read_examples(path, num=21)


@pytest.mark.slow
def test_our_side_gives_the_same_losses_packed_in_one_row_or_not(tmp_path: Path) -> None:
    save_model(tmp_path / "model", ModelShape(vocab_size=8192, hidden_size=128, num_layers=1))
    save_examples(draw_examples(num=12), tmp_path / "examples.parquet")
    results = []
    for micro_batch_examples in (1, 4):
        work = replace(
            WORK,
            model=str(tmp_path / "model"),
            examples=str(tmp_path / "examples.parquet"),
            layout="unpacked",
            objective="dft",
            micro_batch_examples=micro_batch_examples,
        ).write(tmp_path / "work.json")
        command = [sys.executable, "-m", "drsft.bench.training.train_ours", str(work)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
    first, second = (result["losses"] for result in results)
    assert len(first) == 3
    assert first == pytest.approx(second, rel=1e-5)
    assert all(result["peak_rss_mb"] > 100 for result in results)
