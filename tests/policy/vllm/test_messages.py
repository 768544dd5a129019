"""vLLM's messages come out whole, in one line, and by the keys of the configuration."""

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from drsft.policy.vllm.messages import told_by_key


@pytest.mark.parametrize(
    "flag", ["--kv-cache-memory-bytes", "kv_cache_memory_bytes", "`kv-cache-memory-bytes`"]
)
def test_a_flag_is_told_as_the_key_that_sets_it(flag: str) -> None:
    told = told_by_key(ValueError(f"too little:\n\n  raise {flag} " + "and so on " * 50 + "\nend"))
    assert "target.engine.kv_cache_mib" in told
    assert "memory" not in told
    assert "\n" not in told
    assert told.endswith("and so on end")


def test_a_longer_name_and_a_key_of_ours_are_left_alone() -> None:
    text = "my_max_model_len, max_model_len_x and target.max_model_len"
    assert told_by_key(ValueError(text)) == text


def test_a_validation_error_is_its_reasons_alone() -> None:
    class Engine(BaseModel):
        max_num_seqs: int

        @field_validator("max_num_seqs")
        @classmethod
        def fits(cls, given: int) -> int:
            raise ValueError("max_num_seqs is too large")

    with pytest.raises(ValidationError) as refused:
        Engine(max_num_seqs=3)
    assert told_by_key(refused.value) == "target.engine.max_num_seqs is too large"
    assert told_by_key(RuntimeError()) == "RuntimeError"
