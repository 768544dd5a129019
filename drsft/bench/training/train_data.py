"""Makes the model and the data for `drsft bench train`: a random Qwen2, and token ids with realistic
lengths.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from drsft.config import Problems
from drsft.errors import ConfigError, InputError
from drsft.intake.rows import Row, read_rows
from drsft.storage import table_bytes
from drsft.train.encode import Example

__all__ = [
    "ModelShape",
    "Work",
    "draw_examples",
    "read_examples",
    "save_examples",
    "save_model",
]

QUESTION_FIELDS, SOLUTION_FIELDS = ("question", "problem"), ("solution", "answer")
HEAD_SIZE = 64
BPE_TOKENS = 8192  # as many as grade-school text fills; the model's vocabulary may be larger
Encode = Callable[[str], list[int]]
# Natural logarithms of token counts of GSM8K's questions and solutions: mean, standard deviation
QUESTION_LENGTHS, SOLUTION_LENGTHS = (4.0, 0.4), (4.5, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """The sizes of a Qwen2 with random weights and tied embeddings; the default has 10.7M parameters."""

    vocab_size: int = 32_768
    hidden_size: int = 256
    num_layers: int = 4
    intermediate_size: int = 512

    def __post_init__(self) -> None:
        if self.hidden_size % HEAD_SIZE or self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"the hidden size {self.hidden_size} cannot be divided into pairs of heads of {HEAD_SIZE}; "
                f"give a multiple of {2 * HEAD_SIZE}"
            )

    @property
    def num_heads(self) -> int:
        return self.hidden_size // HEAD_SIZE

    @property
    def num_kv_heads(self) -> int:
        return max(1, self.num_heads // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The settings of one measured process, of drsft or of TRL."""

    num_steps: int
    batch_examples: int
    micro_batch_examples: int
    seq_len: int  # of packed rows
    activation_checkpointing: bool
    num_threads: int
    model: str = ""
    examples: str = ""
    layout: str = ""
    objective: str = ""
    loss: str = ""  # on TRL's side: "trl", or "drsft" for drsft.objective_trainer
    learning_rate: float = 1e-4
    max_grad_norm: float = 1.0
    weight_decay: float = 0.01
    adam_betas: tuple[float, float] = (0.9, 0.95)

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def read(cls, path: str) -> "Work":
        fields = json.loads(Path(path).read_text())
        return cls(**{**fields, "adam_betas": tuple(fields["adam_betas"])})


def read_examples(path: Path, *, num: int, model: Path | None = None) -> list[Example]:
    """Returns the first `num` rows of a file, each with a question and a solution, tokenised.

    The tokenizer is that of `model`, or if it is None, a byte-pair encoding trained on these rows. Raises
    InputError if the file has fewer rows, or one of them lacks a text.
    """
    pairs = []
    for row in read_rows(Problems(path=str(path))):
        if isinstance(row, Row):
            question, solution = (_field(row, names) for names in (QUESTION_FIELDS, SOLUTION_FIELDS))
            pairs.append((question, solution))
        if len(pairs) == num:
            break
    if len(pairs) < num:
        raise InputError(f"{path} has {len(pairs)} rows, but {num} are needed; lower --steps or --batch")
    encode = _trained_encoding(pairs) if model is None else _encoding_of(model)
    return [
        _example(index, encode(question), encode(solution))
        for index, (question, solution) in enumerate(pairs)
    ]


def _trained_encoding(pairs: Sequence[tuple[str, str]]) -> Encode:
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator((text for pair in pairs for text in pair), BPE_TOKENS, show_progress=False)
    return lambda text: list(tokenizer.encode(text).ids)


def _encoding_of(model: Path) -> Encode:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False))


def draw_examples(*, num: int, seed: int = 0) -> list[Example]:
    """Returns `num` examples of random token ids, with lengths distributed like GSM8K's (log-normal)."""
    generator = np.random.default_rng(seed)

    def ids(mean: float, deviation: float) -> list[int]:
        length = max(4, round(generator.lognormal(mean, deviation)))
        return [int(token) for token in generator.integers(3, BPE_TOKENS, length)]

    return [_example(index, ids(*QUESTION_LENGTHS), ids(*SOLUTION_LENGTHS)) for index in range(num)]


def _field(row: Row, names: tuple[str, ...]) -> str:
    value: Any = next((row.fields[name] for name in names if name in row.fields), None)
    if not isinstance(value, str):
        raise InputError(f"{row.place}: expected a text in the field {' or '.join(map(repr, names))}")
    return value


def _example(index: int, prompt_ids: list[int], completion_ids: list[int]) -> Example:
    return Example(
        problem_id=f"{index:06d}",
        source="expert",
        input_ids_T=np.array(prompt_ids + completion_ids, dtype=np.int32),
        loss_mask_T=np.arange(len(prompt_ids) + len(completion_ids)) >= len(prompt_ids),
        thought_mask_T=np.zeros(len(prompt_ids) + len(completion_ids), dtype=np.bool_),
    )


def save_examples(examples: list[Example], path: Path) -> None:
    """Writes the examples to a Parquet file in this order, in which drsft and TRL both read them."""
    columns = {
        "input_ids": [example.input_ids_T.tolist() for example in examples],
        "completion_mask": [example.loss_mask_T.astype(int).tolist() for example in examples],
    }
    path.write_bytes(table_bytes(pa.table(columns)))


def save_model(folder: Path, shape: ModelShape) -> int:
    """Writes a model with random weights, and a tokenizer that TRL loads but never uses.

    Returns the model's number of parameters.
    """
    import torch
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    model = Qwen2ForCausalLM(config)
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<end>": 1, "<unk>": 2}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<end>")
    tokenizer.save_pretrained(folder)
    return int(model.num_parameters())
