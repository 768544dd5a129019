"""Rejects the engine arguments of vLLM that `target.engine.options` must not set, and runs vLLM's own check
of the others.

`check_options` runs vLLM's check in a separate process, since it imports all of vLLM and changes the
environment.
"""

import difflib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from pydantic import JsonValue, ValidationError

from drsft.config import Target
from drsft.errors import ConfigError
from drsft.policy.vllm.messages import KEYS, told_by_key

__all__ = ["check_here", "check_names", "check_options", "refused_options"]

KEY = "target.engine.options"

_OWN_KEYS = {
    **KEYS,
    "model": "target.model",
    "dtype": "target.dtype",
    "data_parallel_size": "resources.rewrite_actors",
    "chat_template": "target.chat_template",
    "seed": "seed",
}
_RUNS_CODE = "runs code or unpickles objects, and the configuration holds neither"
_OTHER_WEIGHTS = "samples from other weights than those that are scored and trained; change target.model"
_SAFETENSORS = "drsft reads weights from safetensors only; convert the model"
_OTHER_PROBABILITIES = "draws tokens with other probabilities than the target's"
_OTHER_PURPOSE = "has no use here: an engine of drsft only samples and scores text"
_SPREADS = "spreads one engine over several; set resources.rewrite_actors"
_REASONS = {  # of names here and anywhere inside an option; a name may end in * or begin with it
    "trust_remote_code": _RUNS_CODE,
    "*_cls": _RUNS_CODE,
    "*_plugin": _RUNS_CODE,
    "*_module_path": _RUNS_CODE,
    "enable_prompt_embeds": _RUNS_CODE,
    "logits_processors": _RUNS_CODE,
    "model_class_overrides": _RUNS_CODE,
    "inductor_passes": _RUNS_CODE,
    "load_format": _SAFETENSORS,
    "draft_load_config": _SAFETENSORS,
    "pt_load_map_location": _SAFETENSORS,
    "ignore_patterns": _SAFETENSORS,
    "model_loader_extra_config": _SAFETENSORS,
    "hf_overrides": _OTHER_WEIGHTS,
    "hf_config_path": _OTHER_WEIGHTS,
    "config_format": _OTHER_WEIGHTS,
    "model_weights": _OTHER_WEIGHTS,
    "*tokenizer*": _OTHER_WEIGHTS,
    "enable_lora": _OTHER_WEIGHTS,
    "default_mm_loras": _OTHER_WEIGHTS,
    "logprobs_mode": "records keep the probabilities that a sample was drawn with (processed_logprobs)",
    "rejection_sample_method": _OTHER_PROBABILITIES,
    "synthetic_*": _OTHER_PROBABILITIES,
    "watermark_config": _OTHER_PROBABILITIES,
    "diffusion_config": _OTHER_PROBABILITIES,
    "*generation_config": "is left out: temperature, top_p and max_tokens are keys of rewrite and evaluate",
    "runner": _OTHER_PURPOSE,
    "convert": _OTHER_PURPOSE,
    "pooler_config": _OTHER_PURPOSE,
    "kv_transfer_config": _OTHER_PURPOSE,
    "kv_events_config": _OTHER_PURPOSE,
    "ec_*": _OTHER_PURPOSE,
    "weight_transfer_config": _OTHER_PURPOSE,
    "profiler_config": _OTHER_PURPOSE,
    "data_parallel_*": _SPREADS,
    "nnodes": _SPREADS,
    "node_rank": _SPREADS,
    "master_*": _SPREADS,
}
_SPECULATION = (
    "vLLM's CPU build reads the temperature of speculated tokens from uninitialised memory (0.32), so "
    "that samples follow another distribution; leave it out, or take a GPU"
)
_FAULTY_ON_CPU = {  # of vLLM 0.32: its expand_kernel writes into a copy
    "speculative_config": _SPECULATION,
    "spec_method": _SPECULATION,
    "spec_model": _SPECULATION,
    "enable_chunked_prefill": "vLLM's CPU build stops at a seeded request in a prompt that is read in "
    "chunks; leave it out",
}
_OWN_MACHINE = "--own-machine"
_ANSWER = "drsft's answer: "  # vLLM may print before it
_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*([.:][A-Za-z_]\w*)+")


def check_names(options: Mapping[str, JsonValue]) -> None:
    """Raises ConfigError for an option of vLLM that has its own key in drsft, that runs code, or that would
    sample from other weights or with other probabilities.

    vLLM need not be installed for this.
    """
    for name in options:
        if name in _OWN_KEYS:
            raise ConfigError(f"{KEY}.{name}: drsft has its own key for this option; set {_OWN_KEYS[name]}")
    for path, value in _leaves(options, KEY):
        name = path.rpartition(".")[2]
        reason = next((why for pattern, why in _REASONS.items() if _fits(name, pattern)), None)
        if reason is None and isinstance(value, str) and _IMPORT_PATH.fullmatch(value):
            reason = f"{value!r} names code to import, and {_RUNS_CODE}"
        if reason is not None:
            raise ConfigError(f"{path}: {reason}; leave it out")


def check_options(target: Target, *, is_own_machine: bool) -> None:
    """Raises ConfigError if drsft or vLLM rejects an option of the engine; the message is one line and names
    its key.

    vLLM's check runs only if vLLM can be imported. Whether the model and the hardware support the options is
    checked only with `is_own_machine`, on the machine that will run the engine.
    """
    options = target.engine.options
    check_names(options)
    if not options or find_spec("vllm") is None:
        return
    done = subprocess.run(
        [sys.executable, "-m", "drsft.policy.vllm.options", *([_OWN_MACHINE] if is_own_machine else [])],
        input=target.model_dump_json(),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = done.stdout.rpartition(_ANSWER)[2].strip() if done.returncode == 0 else ""
    if found:
        raise ConfigError(json.loads(found))


def refused_options(
    target: Target, arguments: Mapping[str, Any], *, is_own_machine: bool = True
) -> str | None:
    """Returns the message about the option that vLLM rejects, checked in this process; None if no option is
    at fault.

    `arguments` are the engine's other arguments, which drsft sets itself. An option is at fault if vLLM
    rejects it alone; if none is, all of them together are.
    """
    options = target.engine.options
    for name in sorted(options.keys() - _known_names()):
        close = difflib.get_close_matches(name, sorted(_known_names()), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"{KEY}.{name}: vLLM knows no such engine argument{hint}"
    if is_own_machine and _refusal(arguments, {}) is not None:
        return None
    together = _refusal(arguments, options)
    if together is None and is_own_machine:
        return _faulty_here(options)
    if together is None or not (is_own_machine or _holds_everywhere(together)):
        return None
    for name, value in options.items():
        alone = _refusal(arguments, {name: value})
        if alone is not None and (is_own_machine or _holds_everywhere(alone)):
            return _told(name, value, alone)
    return f"{KEY}: {', '.join(options)} do not go together: {told_by_key(together)}"


def _refusal(arguments: Mapping[str, Any], options: Mapping[str, Any]) -> Exception | None:
    """Returns the error of vLLM's own check, or None; no engine is started."""
    from vllm import EngineArgs

    try:
        EngineArgs(**{**arguments, **options}).create_engine_config()
    except Exception as error:  # pydantic's, ValueError, TypeError, AttributeError, NotImplementedError, …
        return error
    return None


def _faulty_here(options: Mapping[str, JsonValue]) -> str | None:
    import torch

    faulty = [name for name, value in options.items() if value and name in _FAULTY_ON_CPU]
    return (
        f"{KEY}.{faulty[0]}: {_FAULTY_ON_CPU[faulty[0]]}"
        if faulty and not torch.cuda.is_available()
        else None
    )


def check_here(options: Mapping[str, JsonValue]) -> None:
    """Raises ConfigError as `check_names` does, and for options that would sample wrongly on this machine."""
    check_names(options)
    if refusal := _faulty_here(options):
        raise ConfigError(refusal)


def _holds_everywhere(error: Exception) -> bool:
    """Returns whether an error is about names and types, not about hardware or a model's files."""
    if isinstance(error, ValidationError):
        return all(one["type"] != "value_error" for one in error.errors())
    return isinstance(error, TypeError | AttributeError)


def _told(name: str, value: JsonValue, error: Exception) -> str:
    key, message = f"{KEY}.{name}", told_by_key(error)
    if isinstance(error, ValidationError) and error.errors()[0]["type"] != "value_error":
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        key = f"{key}.{path}" if isinstance(value, dict) and path else key
        message = f"{first['msg'].replace('Input should be', 'expected')}, got {first['input']!r:.80}"
    elif isinstance(error, TypeError | AttributeError) and not isinstance(value, dict):
        message = f"expected keys with values, got {value!r:.80}" if "attribute" in message else message
    return f"{key}: {message.removeprefix(f'{key}: ')}"


def _known_names() -> frozenset[str]:
    from dataclasses import fields

    from vllm import EngineArgs

    return frozenset(field.name for field in fields(EngineArgs) if not field.name.startswith("_"))


def _leaves(value: JsonValue | Mapping[str, JsonValue], path: str) -> Iterator[tuple[str, JsonValue]]:
    """Yields everything below `value` with its path; each mapping and list before what it holds."""
    members: Iterator[tuple[Any, JsonValue]] = iter(())
    if isinstance(value, Mapping):
        members = iter(value.items())
    elif isinstance(value, list):
        members = iter(enumerate(value))
    for name, member in members:
        yield f"{path}.{name}", member
        yield from _leaves(member, f"{path}.{name}")


def _fits(name: str, pattern: str) -> bool:
    inner = pattern.strip("*")
    starts, ends = pattern.endswith("*"), pattern.startswith("*")
    if starts and ends:
        return inner in name
    return name.startswith(inner) if starts else name.endswith(inner) if ends else name == inner


def _main() -> None:
    from drsft.policy.prompts import model_location
    from drsft.policy.vllm.engine import engine_arguments

    target = Target.model_validate_json(sys.stdin.read())
    arguments = {"model": model_location(target.model), **engine_arguments(target)}
    refusal = refused_options(target, arguments, is_own_machine=_OWN_MACHINE in sys.argv)
    print(_ANSWER + (json.dumps(refusal) if refusal else ""))


if __name__ == "__main__":
    _main()
