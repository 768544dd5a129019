"""Computes the peak memory of one process of each stage: on its GPU, on the host, and on the local disk.

It adds up the sizes of the model's tensors. `docs/sizing.md` says how far this was measured.
"""

from dataclasses import dataclass

from drsft.config import RunConfig
from drsft.errors import ConfigError
from drsft.objectives.chunk_size import GPU_LOSS
from drsft.policy.cache_size import ModelShape
from drsft.policy.card_budget import beside_engine, check_shares, engine_share, engine_wants
from drsft.train.units import is_one_unit

__all__ = ["StageMemory", "memory_of", "refuse_what_does_not_fit", "training_work"]

GIB = 1 << 30
PROCESS_BYTES = 560_000_000  # of the host: Python, torch, transformers; 520 to 545 MB measured
CHUNK_COPIES = 3  # logits, their gradient and what softmax keeps
STATE_BYTES = 16  # a trained parameter: weight, gradient and AdamW's two moments in fp32
SAVED_BYTES = 12  # of them in a checkpoint: no gradient


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMemory:
    """The peak memory of one process of a stage, in bytes: on its GPU (`card`), the host and the local disk.

    Without a GPU, the bytes of `card` are on the host, too.
    """

    stage: str
    num_processes: int
    card: int
    host: int
    first_host: int  # of the process that holds most, the first of a training
    disk: int


def memory_of(config: RunConfig, shape: ModelShape) -> tuple[StageMemory, ...]:
    """Returns the peak memory of the stages rewriting, gap and training, in this order.

    Evaluation has no entry: it needs less than rewriting, only the memory of the engine.
    """
    target, resources = config.target, config.resources
    size = shape.size(target.dtype)
    beside = sum(beside_engine(target, config.rewrite, size).values())
    scoring = size.weight_bytes + 16_384 * size.activation_bytes_per_token
    engine = StageMemory(
        stage="rewrite",
        num_processes=resources.engine_share.num_workers,
        card=engine_wants(target, size) + beside,
        host=PROCESS_BYTES,
        first_host=PROCESS_BYTES,
        disk=size.weight_bytes,
    )
    gap = StageMemory(
        stage="gap",
        num_processes=resources.engine_share.num_workers,
        card=scoring,
        host=PROCESS_BYTES,
        first_host=PROCESS_BYTES,
        disk=size.weight_bytes,
    )
    return engine, gap, training_memory(config, shape)


def training_memory(config: RunConfig, shape: ModelShape) -> StageMemory:
    """Returns the peak memory of a training process.

    `first_host` is that of the first process, which tries the model in fp32 on the host and gathers the
    weights for the export.
    """
    train, num_workers = config.train, config.resources.train_share.num_workers
    num_shards = min(config.resources.train_shards or num_workers, num_workers)
    size, num_bytes = shape.size(config.target.dtype), 4 if config.target.dtype == "float32" else 2
    whole = 4 * shape.num_parameters
    state = 4 if train.lora is not None else STATE_BYTES
    start = any(arm.objective.needs.start_model for arm in train.arms) and train.lora is None
    held = (state + (num_bytes if start else 0)) * shape.num_parameters // num_shards
    return StageMemory(
        stage="train",
        num_processes=num_workers,
        card=held + _gathered(shape, num_bytes, num_workers) + training_work(config, shape),
        host=PROCESS_BYTES,
        first_host=PROCESS_BYTES + whole + size.weight_bytes,
        disk=size.weight_bytes + SAVED_BYTES * shape.num_parameters // num_workers,
    )


def training_work(config: RunConfig, shape: ModelShape) -> int:
    """Returns the bytes of the activations that a forward pass keeps for backward, and of the loss's logits.

    A layer keeps for each token: fp32 states before its two norms; normed states, queries, keys, values and
    their sum; gate, its activation, up and their product.
    """
    train, num_bytes = config.train, 4 if config.target.dtype == "float32" else 2
    tokens = train.micro_batch_rows * train.seq_len
    states, inner = shape.hidden_size, shape.inner_size
    layer = 8 * states + num_bytes * (5 * states + 2 * shape.query_size + 2 * shape.key_size + 4 * inner)
    kept = shape.num_layers * layer
    if train.activation_checkpointing:
        kept = shape.num_layers * states * num_bytes + layer
    row_bytes = 4 * shape.vocab_size
    chunk_tokens = min(tokens, GPU_LOSS.tokens(row_bytes))
    return tokens * kept + CHUNK_COPIES * chunk_tokens * row_bytes


def _gathered(shape: ModelShape, num_bytes: int, num_workers: int) -> int:
    """Returns the bytes that FSDP has gathered at once: weights and gradients of embeddings and head, and of
    two layers; of the whole model if it is one unit.

    A single worker in fp32 gathers nothing.
    """
    if num_workers == 1 and num_bytes == 4:
        return 0
    gathered = shape.embedding_parameters + 2 * shape.layer_parameters
    if is_one_unit(shape.num_parameters):
        gathered = shape.num_parameters
    return gathered * (2 * num_bytes + 4)


def refuse_what_does_not_fit(config: RunConfig, shape: ModelShape, *, card_bytes: int) -> None:
    """Raises ConfigError, which names a setting to change, if a stage needs more than `card_bytes` of GPU."""
    target, size = config.target, shape.size(config.target.dtype)
    check_shares(target, config.resources.gpus_per_actor)
    beside = beside_engine(target, config.rewrite, size)
    engine_share(target, size, beside=beside, card_bytes=card_bytes)
    needed = training_memory(config, shape).card
    if config.train.arms and needed > card_bytes:
        work = training_work(config, shape)
        shared_by = "train_workers" if config.resources.train_shards is None else "train_shards"
        key = "train.micro_batch_rows" if work > needed // 2 else f"resources.{shared_by}"
        raise ConfigError(
            f"{key}: a training worker needs {needed / GIB:,.1f} GiB ({work / GIB:,.1f} GiB of it for one "
            f"forward), and the GPU has {card_bytes / GIB:,.1f}; set train.activation_checkpointing, lower "
            f"train.micro_batch_rows or train.seq_len, raise resources.{shared_by}, or set train.lora"
        )
