"""Builds the engines that a configuration asks for. The only module that knows all of them."""

from dataclasses import dataclass

from drsft.config import Rewrite, Target
from drsft.policy.hinted.protocol import HintedDecoder
from drsft.policy.prompts import Prompter
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
    on_phase: OnPhase = lambda phase: None,
) -> Engines:
    """One vLLM engine for everything, or beside it a torch model where Hinted Decoding is to run there.

    Raises ModelError for a model that cannot be loaded, and SetupError or ConfigError where Hinted Decoding
    cannot run as asked.
    """
    if rewrite.is_hinted and rewrite.hinted.engine == "vllm":
        from drsft.policy.hinted.vllm_engine import VLLMHintedDecoder  # loads torch: not before it is needed

        paired = VLLMHintedDecoder(target, prompter, on_phase=on_phase)
        return Engines(policy=paired.policy, decoder=paired)
    # First: it sets the environment that must stand before torch is loaded.
    policy = VLLMPolicy(target, prompter, on_phase=on_phase)
    if not rewrite.is_hinted:
        return Engines(policy=policy, decoder=None)
    from drsft.policy.hinted.torch_engine import TorchHintedDecoder

    return Engines(policy=policy, decoder=TorchHintedDecoder(target, prompter))
