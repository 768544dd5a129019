"""A chunk of logits holds the wanted tokens where they fit, and 16 tokens at least."""

from hypothesis import given
from hypothesis import strategies as st

from drsft.objectives.chunk_size import CPU, GPU, GPU_LOSS, LEAST_TOKENS

SIZES = [CPU, GPU, GPU_LOSS]


@given(
    size=st.sampled_from(SIZES), vocabulary=st.integers(2, 2_000_000), bytes_of_one=st.sampled_from([4, 8])
)
def test_a_chunk_has_its_tokens_or_is_at_its_limit(size, vocabulary, bytes_of_one) -> None:  # type: ignore[no-untyped-def]
    row_bytes = vocabulary * bytes_of_one
    tokens = size.tokens(row_bytes)
    assert tokens >= LEAST_TOKENS
    assert tokens == LEAST_TOKENS or tokens * row_bytes <= size.most_bytes
    assert tokens >= size.num_tokens or (tokens + 1) * row_bytes > size.most_bytes


def test_a_loss_on_a_gpu_takes_a_thousand_tokens_of_a_large_vocabulary() -> None:
    assert GPU_LOSS.tokens(4 * 152_064) == 1024
    assert GPU.tokens(4 * 152_064) == 441
    assert GPU_LOSS.tokens(4 * 32_000) == GPU.tokens(4 * 32_000)
