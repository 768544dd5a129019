"""Decides for how many tokens logits are computed at once. Loads no torch, since memory plans use it, too."""

from dataclasses import dataclass

__all__ = ["CPU", "GPU", "GPU_LOSS", "ChunkSize"]

MIB = 1 << 20
LEAST_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSize:
    """A chunk has `num_bytes` of logits, or more, up to `most_bytes`, until it holds `num_tokens`."""

    num_bytes: int
    most_bytes: int
    num_tokens: int

    def tokens(self, row_bytes: int) -> int:
        """Returns the tokens of a chunk; `row_bytes` are those of one token's logits."""
        wanted = min(self.num_tokens, self.most_bytes // row_bytes)
        return max(LEAST_TOKENS, wanted, self.num_bytes // row_bytes)


# Products of few tokens are slow on a CPU.
CPU = ChunkSize(num_bytes=96 * MIB, most_bytes=192 * MIB, num_tokens=320)
GPU = ChunkSize(num_bytes=256 * MIB, most_bytes=256 * MIB, num_tokens=1)
# Each chunk of C tokens reads and writes the head's gradient in fp32: 8 bytes beside 6 C operations for each
# weight. By arithmetic, at 600 TFLOP/s and 3.3 TB/s, that adds 55 % to the products' time with the 441 tokens
# of a vocabulary of 152,064 that fit into 256 MiB, and 24 % with 1,024 tokens.
GPU_LOSS = ChunkSize(num_bytes=256 * MIB, most_bytes=1024 * MIB, num_tokens=1024)
