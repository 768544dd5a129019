"""`target.engine.options`: what drsft refuses, and what vLLM itself says, each by our key and in one line."""

import pytest
from pydantic import JsonValue

from drsft.config import Engine, Target
from drsft.errors import ConfigError
from drsft.policy.vllm.options import check_names

OWN_KEYS = {
    "dtype": "target.dtype",
    "max_num_seqs": "target.engine.max_num_seqs",
    "tensor_parallel_size": "target.engine.tensor_parallel_size",
    "kv_cache_memory_bytes": "target.engine.kv_cache_mib",
    "data_parallel_size": "resources.rewrite_actors",
}


@pytest.mark.parametrize(("name", "key"), OWN_KEYS.items())
def test_an_option_with_a_key_of_its_own_names_that_key(name: str, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_names({name: 2})
    assert (
        str(refused.value)
        == f"target.engine.options.{name}: drsft has its own key for this option; set {key}"
    )


BREAKING: list[tuple[dict[str, JsonValue], str]] = [
    ({"logprobs_mode": "raw_logprobs"}, "logprobs_mode"),
    ({"trust_remote_code": True}, "trust_remote_code"),
    ({"load_format": "pt"}, "load_format"),
    ({"worker_cls": "mine"}, "worker_cls"),
    ({"reasoning_parser_plugin": "/tmp/x.py"}, "reasoning_parser_plugin"),
    ({"distributed_executor_backend": "mine.Executor"}, "distributed_executor_backend"),
    ({"logits_processors": ["mine:Bias"]}, "logits_processors"),
    ({"hf_overrides": {"rope_theta": 1.0}}, "hf_overrides"),
    ({"tokenizer": "another"}, "tokenizer"),
    ({"override_generation_config": {"temperature": 0.1}}, "override_generation_config"),
    ({"compilation_config": {"backend": "mine.compiler"}}, "compilation_config.backend"),
    (
        {"compilation_config": {"inductor_passes": {"p": "mine.p"}}},
        "compilation_config.inductor_passes",
    ),
    (
        {"speculative_config": {"method": "custom_class", "model": "mine.Proposer"}},
        "speculative_config.model",
    ),
    (
        {"speculative_config": {"method": "ngram", "rejection_sample_method": "synthetic"}},
        "speculative_config.rejection_sample_method",
    ),
    (
        {"speculative_config": {"model": "a/b", "draft_load_config": {"load_format": "pt"}}},
        "speculative_config.draft_load_config",
    ),
    ({"kv_transfer_config": {"kv_connector_module_path": "mine"}}, "kv_transfer_config"),
    ({"watermark_config": {}}, "watermark_config"),
]


@pytest.mark.parametrize(("options", "path"), BREAKING)
def test_what_would_break_a_guarantee_is_refused_wherever_it_stands(
    options: dict[str, JsonValue], path: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        check_names(options)
    assert str(refused.value).startswith(f"target.engine.options.{path}: ")
    assert "\n" not in str(refused.value)


def test_what_the_engine_may_be_told_passes() -> None:
    check_names(
        {
            "quantization": "fp8",
            "kv_cache_dtype": "fp8_e5m2",
            "enable_prefix_caching": False,
            "speculative_config": {
                "method": "eagle3",
                "model": "org/model-v1.5",
                "num_speculative_tokens": 3,
            },
            "attention_backend": "FLASH_ATTN",
            "pipeline_parallel_size": 2,
            "compilation_config": {"mode": 3, "cudagraph_capture_sizes": [1, 2]},
            "distributed_executor_backend": "mp",
            "watermark": 0.1,
        }
    )


def test_options_are_part_of_a_target_only_where_they_are_set() -> None:
    """A run made before the key existed keeps its name; options change it, as they may change the samples."""
    plain, changed = Engine(), Engine(options={"quantization": "fp8"})
    assert "options" not in plain.model_dump(mode="json")
    assert "options" not in Target(model="m").model_dump(mode="json")["engine"]
    assert Engine.model_validate(changed.model_dump(mode="json")) == changed
