"""Rewords vLLM's messages so that they name the keys of drsft's configuration."""

import re

from pydantic import ValidationError

__all__ = ["KEYS", "told_by_key"]

KEYS = {  # by vLLM's names
    "kv_cache_memory_bytes": "target.engine.kv_cache_mib",
    "gpu_memory_utilization": "target.engine.gpu_memory_utilization",
    "max_num_seqs": "target.engine.max_num_seqs",
    "tensor_parallel_size": "target.engine.tensor_parallel_size",
    "enforce_eager": "target.engine.enforce_eager",
    "max_model_len": "target.max_model_len",
}
_FLAG = re.compile(
    r"(?<![\w.])(?:--)?(" + "|".join(name.replace("_", "[-_]") for name in KEYS) + r")(?![\w-])"
)


def told_by_key(error: BaseException) -> str:
    """Returns vLLM's whole message in one line, with drsft's configuration keys in place of vLLM's flags.

    If there is no message, it returns the error's class.
    """
    message = str(error)
    if isinstance(error, ValidationError):
        message = "; ".join(str(one["msg"]).removeprefix("Value error, ") for one in error.errors())
    line = " ".join(message.split()) or type(error).__name__
    return _FLAG.sub(lambda found: KEYS[found[1].replace("-", "_")], line)
