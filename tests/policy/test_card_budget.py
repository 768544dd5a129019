"""One budget for all that lives on a card: what fits, what vLLM gets of it, and what is refused."""

from typing import Any

import pytest

from drsft.config import Rewrite, Target
from drsft.errors import ConfigError
from drsft.policy.cache_size import ModelSize
from drsft.policy.card_budget import beside_engine, check_shares, engine_share, engine_wants

GB, CARD = 10**9, 80 * 10**9
QWEN_7B = ModelSize(
    num_parameters=7_600_000_000,
    weight_bytes=15_200_000_000,
    cache_bytes_per_token=57_344,
    activation_bytes_per_token=142_000,
)


def target(**engine: Any) -> Target:
    return Target(model="m", engine=engine)


def hinted(engine: str) -> Rewrite:
    return Rewrite(method="hinted", hinted={"engine": engine})


@pytest.mark.parametrize(
    ("engine", "gpus_per_actor"),
    [
        ({"tensor_parallel_size": 2}, 1),
        ({"tensor_parallel_size": 2}, 0.5),
        ({"tensor_parallel_size": 1}, 2),
        ({"tensor_parallel_size": 4}, 2),
    ],
)
def test_an_engine_over_other_cards_than_its_actor_has_is_refused(
    engine: dict[str, int], gpus_per_actor: float
) -> None:
    settings = {"gpu_memory_utilization": 0.5, **engine}
    with pytest.raises(ConfigError, match=r"^target\.engine\.tensor_parallel_size: .*set both"):
        check_shares(target(**settings), gpus_per_actor)


def test_engines_that_would_take_more_than_their_card_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^target\.engine\.gpu_memory_utilization: 0\.9 .*at most 0\.5$"):
        check_shares(target(), 0.5)


@pytest.mark.parametrize(
    ("engine", "gpus_per_actor"),
    [
        ({}, 0),
        ({}, 1),
        ({"tensor_parallel_size": 2}, 0),  # engines on a CPU
        ({"tensor_parallel_size": 2}, 2),
        ({"gpu_memory_utilization": 0.5}, 0.5),
        ({"gpu_memory_utilization": 0.3}, 0.5),
    ],
)
def test_shares_that_agree_are_taken(engine: dict[str, Any], gpus_per_actor: float) -> None:
    check_shares(target(**engine), gpus_per_actor)


def test_an_engine_alone_has_the_share_that_was_set() -> None:
    assert engine_share(target(), QWEN_7B, beside={}, card_bytes=CARD) == 0.9
    for rewrite in (Rewrite(), hinted("vllm")):
        assert beside_engine(target(), rewrite, QWEN_7B) == {}


@pytest.mark.parametrize(
    ("rewrite", "key"),
    [
        (Rewrite(selection="closest"), "rewrite.selection: closest"),
        (hinted("torch"), "rewrite.hinted.engine: torch"),
    ],
)
def test_a_second_copy_of_the_weights_is_taken_off_the_engines_share(rewrite: Rewrite, key: str) -> None:
    small = target(max_num_seqs=64)
    beside = beside_engine(small, rewrite, QWEN_7B)
    assert beside.keys() == {key}
    assert beside[key] > QWEN_7B.weight_bytes
    share = engine_share(small, QWEN_7B, beside=beside, card_bytes=CARD)
    assert share * CARD + beside[key] == pytest.approx(0.9 * CARD)
    assert share * CARD >= engine_wants(small, QWEN_7B)


@pytest.mark.parametrize(
    ("rewrite", "card_gb", "key"),
    [
        (Rewrite(selection="closest"), 40, r"rewrite\.selection: closest"),
        (hinted("torch"), 60, r"rewrite\.hinted\.engine: torch"),
        (Rewrite(), 16, r"target\.engine\.gpu_memory_utilization"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line_that_names_the_setting(
    rewrite: Rewrite, card_gb: int, key: str
) -> None:
    beside = beside_engine(target(), rewrite, QWEN_7B)
    with pytest.raises(ConfigError, match=rf"^{key}: the engine needs ") as found:
        engine_share(target(), QWEN_7B, beside=beside, card_bytes=card_gb * GB)
    assert "\n" not in str(found.value)


def test_cards_together_hold_what_one_cannot() -> None:
    size = ModelSize(
        num_parameters=70 * GB,
        weight_bytes=140 * GB,
        cache_bytes_per_token=327_680,
        activation_bytes_per_token=237_568,
    )
    with pytest.raises(ConfigError, match=r"raise target\.engine\.tensor_parallel_size$"):
        engine_share(target(), size, beside={}, card_bytes=CARD)
    assert engine_share(target(tensor_parallel_size=4), size, beside={}, card_bytes=CARD) == 0.9


def test_a_cache_that_was_asked_for_counts() -> None:
    with pytest.raises(ConfigError, match="the engine needs"):
        engine_share(target(kv_cache_mib=70_000), QWEN_7B, beside={}, card_bytes=CARD)


CACHE, LENGTH, SEQUENCES = "target.engine.kv_cache_mib", "target.max_model_len", "target.engine.max_num_seqs"


@pytest.mark.parametrize(
    ("rewrite", "engine", "lowered"),
    [
        (Rewrite(), {}, [LENGTH]),
        (Rewrite(), {"kv_cache_mib": 70_000}, [CACHE]),
        (Rewrite(selection="closest"), {"kv_cache_mib": 70_000}, [CACHE]),
        (hinted("torch"), {}, [SEQUENCES, LENGTH]),
        (hinted("torch"), {"kv_cache_mib": 70_000}, [SEQUENCES, LENGTH, CACHE]),
        (hinted("torch"), {"options": {"quantization": "fp8"}}, [SEQUENCES, LENGTH]),
        (Rewrite(selection="closest"), {"options": {"quantization": "fp8"}}, []),
    ],
)
def test_a_refusal_names_the_settings_that_help_and_no_other(
    rewrite: Rewrite, engine: dict[str, Any], lowered: list[str]
) -> None:
    """Lowering each setting that is named lowers what is needed; lowering one that is not changes nothing."""
    asked = target(max_num_seqs=512, **engine)
    lower = {
        SEQUENCES: target(**{**engine, "max_num_seqs": 1}),
        LENGTH: asked.model_copy(update={"max_model_len": 16}),
        CACHE: target(**{**engine, "max_num_seqs": 512, "kv_cache_mib": 16}),
    }
    is_smaller = "options" in engine

    def needed(one: Target) -> int:
        beside = sum(beside_engine(one, rewrite, QWEN_7B).values())
        return beside + (0 if is_smaller else engine_wants(one, QWEN_7B))

    with pytest.raises(ConfigError) as found:
        engine_share(asked, QWEN_7B, beside=beside_engine(asked, rewrite, QWEN_7B), card_bytes=16 * GB)
    remedy = str(found.value).split("; ")[1]
    assert [key for key in lower if key in remedy] == sorted(lowered, key=list(lower).index)
    for key, changed in lower.items():
        if key != CACHE or "kv_cache_mib" in engine:
            assert (needed(changed) < needed(asked)) == (key in lowered)
    assert ("tensor_parallel_size" in remedy) == (not is_smaller)
