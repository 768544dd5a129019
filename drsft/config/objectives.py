"""Lists all objectives, each with its published hyperparameters and the inputs that it needs.

Their formulas are the cases of `token_terms` (drsft/objectives/weights.py). p is the policy's probability of
the token, p_start the starting model's, and H the entropy of the policy's distribution there.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from drsft.config.base import Frozen

# The objectives themselves are the members of `Objective`.
__all__ = ["Guards", "Needs", "Objective", "objectives_by_kind"]

KlWeight = Annotated[
    float, Field(ge=0, description="weight of KL(frozen start ‖ policy) over the full vocabulary")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """The inputs that an objective needs besides each token's log-prob and entropy."""

    start_logprobs: bool = False  # the frozen start's log-probs of the labels, scored once
    start_model: bool = False  # the frozen start itself, for its whole distribution
    kl_weight: float = 0.0
    steps_per_snapshot: int | None = None  # the policy's own log-probs, scored again after so many steps
    whole_documents: bool = False  # a token's weight depends on its whole completion
    top_k: int | None = None
    entropy_epsilon: float = 0.0

    @property
    def compares(self) -> bool:
        """Whether the objective compares two passes over the same tokens, which must use no dropout."""
        return self.start_logprobs or self.start_model or self.steps_per_snapshot is not None


class WithNeeds(Frozen):
    """Base class of all objectives; most need nothing but the token's own log-prob and entropy."""

    @property
    def needs(self) -> Needs:
        return Needs()


class Sft(WithNeeds):
    """Plain cross-entropy: weight 1."""

    kind: Literal["sft"] = "sft"


class Dft(WithNeeds):
    """Dynamic fine-tuning (arXiv 2508.05629, eq. 9): weight p."""

    kind: Literal["dft"] = "dft"


class DftSeq(WithNeeds):
    """DFT's ablation over whole completions (eq. 8): weight Π p. It learns next to nothing."""

    kind: Literal["dft_seq"] = "dft_seq"

    @property
    def needs(self) -> Needs:
        return Needs(whole_documents=True)


class DftGeomean(WithNeeds):
    """DFT's ablation with the geometric mean of p over the completion (table 5)."""

    kind: Literal["dft_geomean"] = "dft_geomean"

    @property
    def needs(self) -> Needs:
        return Needs(whole_documents=True)


class IwSft(WithNeeds):
    """iw-SFT (arXiv 2507.12856) over completions: weight exp(temperature · mean log p/p_start), at most
    max_weight.
    """

    kind: Literal["iw_sft"] = "iw_sft"
    temperature: float = Field(1.0, gt=0, description="multiplies the mean log-ratio")
    max_weight: float = Field(16.0, gt=0)

    @property
    def needs(self) -> Needs:
        return Needs(start_logprobs=True, whole_documents=True)


class IwSftToken(WithNeeds):
    """iw-SFT for each token: weight p/p_start, limited to min_weight … max_weight."""

    kind: Literal["iw_sft_token"] = "iw_sft_token"
    min_weight: float = Field(0.2, ge=0)
    max_weight: float = Field(1.8, gt=0)

    @property
    def needs(self) -> Needs:
        return Needs(start_logprobs=True)


class Idft(WithNeeds):
    """In-distribution fine-tuning (arXiv 2602.12222) as released: weight p^γ, where γ falls with φ."""

    kind: Literal["idft"] = "idft"
    beta: float = Field(1.0, gt=0, description="nats of φ that change γ by a factor of e")
    gamma_min: float = Field(0.1, ge=0)
    gamma_max: float = Field(2.0, gt=0)
    warmup_ratio: float = Field(0.0, ge=0, le=1, description="share of all steps with DFT's γ = 1")
    transition_ratio: float = Field(
        0.0, ge=0, le=1, description="share of all steps in which γ moves from 1 to its full value"
    )
    min_p: float = Field(1e-10, ge=0, lt=1, description="tokens below it have no gradient")
    entropy_epsilon: float = Field(
        0.0, ge=0, description="added to p inside the logarithm of H; the release has 1e-10"
    )

    @property
    def needs(self) -> Needs:
        return Needs(entropy_epsilon=self.entropy_epsilon)


class IdftPhiClip(WithNeeds):
    """IDFT as the first version of its paper can be read: weight p^exp(−φ), with φ limited."""

    kind: Literal["idft_phi_clip"] = "idft_phi_clip"
    max_phi: float = Field(5.0, gt=0, description="limit of |φ|, nats")


class Eaft(WithNeeds):
    """Entropy-adaptive fine-tuning (EAFT, arXiv 2601.02151) as released: weight (H of the top_k tokens /
    norm)^alpha.
    """

    kind: Literal["eaft"] = "eaft"
    top_k: int = Field(20, ge=1, description="number of likeliest tokens for the entropy, renormalised")
    norm: float = Field(3.0, gt=0, description="about ln 20")
    alpha: float = Field(1.0, ge=0)

    @property
    def needs(self) -> Needs:
        return Needs(top_k=self.top_k)


class EaftFull(WithNeeds):
    """EAFT as arXiv 2602.12222 defines it for a baseline: weight H / ln V, V the size of the vocabulary."""

    kind: Literal["eaft_full"] = "eaft_full"


class Talr(WithNeeds):
    """Token-adaptive loss reweighting (arXiv 2509.20758): weight p^(1/τ), τ the step's median loss."""

    kind: Literal["talr"] = "talr"
    min_weight: float = Field(0.01, ge=0)

    @property
    def needs(self) -> Needs:
        return Needs(steps_per_snapshot=1)


class Asft(WithNeeds):
    """Anchored SFT (arXiv 2509.23753): DFT with a KL term to the frozen starting model."""

    kind: Literal["asft"] = "asft"
    kl_weight: KlWeight = 0.05

    @property
    def needs(self) -> Needs:
        return Needs(start_model=True, kl_weight=self.kl_weight)


class SftKl(WithNeeds):
    """SFT with a KL term to the frozen starting model."""

    kind: Literal["sft_kl"] = "sft_kl"
    kl_weight: KlWeight = 0.1

    @property
    def needs(self) -> Needs:
        return Needs(start_model=True, kl_weight=self.kl_weight)


class Psft(WithNeeds):
    """Proximal SFT (arXiv 2508.17784): PPO's clipped ratio with advantage 1."""

    kind: Literal["psft"] = "psft"
    clip_low: float = Field(0.2, ge=0, lt=1)
    clip_high: float = Field(0.28, gt=0)
    steps_per_snapshot: int = Field(
        8,
        ge=1,
        description="updates between two snapshots of p_old; with 1 the ratio is always 1, which is SFT",
    )

    @property
    def needs(self) -> Needs:
        return Needs(steps_per_snapshot=self.steps_per_snapshot)


class ChordPhi(WithNeeds):
    """CHORD's token weight (arXiv 2508.11408): p (1 − p), with p the token's probability."""

    kind: Literal["chord_phi"] = "chord_phi"


class PPower(WithNeeds):
    """Loss (1 − p^alpha) / alpha (arXiv 2510.00526): DFT's gradient at alpha 1; it approaches SFT's at alpha
    0.
    """

    kind: Literal["p_power"] = "p_power"
    alpha: float = Field(1.0, gt=0)


class Luffy(WithNeeds):
    """LUFFY's policy shaping (arXiv 2504.14945), its term for demonstrations only.

    A token's loss is −advantage · p / (p + gamma).
    """

    kind: Literal["luffy"] = "luffy"
    gamma: float = Field(0.1, gt=0)
    advantage: float = 1.0


class Srft(WithNeeds):
    """SRFT's term for demonstrations (arXiv 2506.19767): weight scale · exp(entropy_power · H), with H the
    entropy of the model's next-token distribution.
    """

    kind: Literal["srft"] = "srft"
    scale: float = Field(0.5, gt=0)
    entropy_power: float = Field(-1.0, description="−1 in the paper, +1 in its release")


Objective = Annotated[
    Sft
    | Dft
    | DftSeq
    | DftGeomean
    | IwSft
    | IwSftToken
    | Idft
    | IdftPhiClip
    | Eaft
    | EaftFull
    | Talr
    | Asft
    | SftKl
    | Psft
    | ChordPhi
    | PPower
    | Luffy
    | Srft,
    Field(discriminator="kind"),
]


def objectives_by_kind() -> dict[str, type[Objective]]:
    """Returns the class of each objective by its `kind`, such as "dft", in the order of `Objective`."""
    union, _ = get_args(Objective)
    return {one.model_fields["kind"].default: one for one in get_args(union)}


class Guards(Frozen):
    """Protects rare but needed tokens from small weights: without these settings a model may never learn to
    end a text, or to keep a format.
    """

    min_weight: float = Field(0.0, ge=0, description="floor of every token's weight")
    exempt_end_of_turn: bool = Field(False, description="the last token of a completion has weight 1")
    exempt_texts: tuple[str, ...] = Field(
        (), description="tokens that spell one of these have weight 1, such as \\boxed{ or </think>"
    )

    @model_validator(mode="after")
    def texts_are_not_empty(self) -> "Guards":
        if not all(self.exempt_texts):
            raise ValueError("exempt_texts must not contain an empty text")
        return self
