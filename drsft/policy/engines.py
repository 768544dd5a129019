"""Builds the engines that a configuration asks for. No other module knows all kinds of engine."""

from dataclasses import dataclass

from drsft.config import Rewrite, Target
from drsft.policy.cache_size import model_size
from drsft.policy.card_budget import beside_engine, engine_share, smallest_card_bytes
from drsft.policy.hinted.protocol import HintedDecoder
from drsft.policy.prompts import Prompter, model_location
from drsft.policy.vllm.engine import set_environment
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.policy.vllm.start_phases import OnPhase

__all__ = ["Engines", "build_engines"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    policy: VLLMPolicy
    decoder: HintedDecoder | None  # where the method is Hinted Decoding


def build_engines(
    target: Target,
    prompter: Prompter,
    rewrite: Rewrite,
    *,
    shares_card: bool = True,
    on_phase: OnPhase = lambda phase: None,
) -> Engines:
    """Starts one vLLM engine, which samples all phases. If `rewrite` selects the torch engine for Hinted
    Decoding, also loads a torch model for it.

    `shares_card` is true if the other models that `rewrite` needs, such as a model that scores samples, are
    on the engine's GPU; then the engine leaves memory for them. Raises ModelError for a model that
    cannot be loaded, SetupError or ConfigError if Hinted Decoding cannot run as configured, and ConfigError
    if something does not fit on the GPU.
    """
    target = _within_its_share(target, rewrite if shares_card else Rewrite())
    if rewrite.is_hinted and rewrite.hinted.engine == "vllm":
        from drsft.policy.hinted.vllm_engine import (
            VLLMHintedDecoder,
        )  # loads torch, so it is imported only when needed

        paired = VLLMHintedDecoder(target, prompter, on_phase=on_phase)
        return Engines(policy=paired.policy, decoder=paired)
    # The vLLM engine is built first: it sets environment variables that torch reads when it is loaded.
    policy = VLLMPolicy(target, prompter, on_phase=on_phase)
    if not rewrite.is_hinted:
        return Engines(policy=policy, decoder=None)
    from drsft.policy.hinted.torch_engine import TorchHintedDecoder

    return Engines(policy=policy, decoder=TorchHintedDecoder(target, prompter))


def _within_its_share(target: Target, rewrite: Rewrite) -> Target:
    """Returns the target with the share of the card that is left to vLLM."""
    set_environment()  # before torch is loaded
    card_bytes = smallest_card_bytes()
    if card_bytes is None:
        return target
    size = model_size(model_location(target.model), target.dtype)
    beside = beside_engine(target, rewrite, size)
    share = engine_share(target, size, beside=beside, card_bytes=card_bytes)
    engine = target.engine.model_copy(update={"gpu_memory_utilization": share})
    return target.model_copy(update={"engine": engine})
