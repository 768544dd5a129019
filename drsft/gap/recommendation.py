"""Recommends what to do about a gap, by a stated rule. docs/gap-evidence.md has the evidence and its limits.

- Mean p of the kept tokens below 0.1: sft, as weights by p would leave almost nothing of a text that the
  model finds unlikely.
- Otherwise dft. If the kept texts' phi is near zero, the choice matters little, otherwise much.
- If the kept texts' phi is clearly below -0.1, rewriting more of them is worth it.
"""

from dataclasses import dataclass

from drsft.gap.summary import GapSummary, SourceGap

__all__ = ["LIMITS", "NEAR_PHI", "WEAK_PRIOR", "Recommendation", "recommend"]

NEAR_PHI = -0.1  # nats; arXiv 2602.12222's release gives -0.05 for good rewriting, below -0.1 for worse
WEAK_PRIOR = 0.1  # mean p; arXiv 2510.00526 finds -p ahead at .8, level at .5, far behind at .01

LIMITS = (
    "φ̄ near zero is necessary, not sufficient: for texts from q it is H(p) − H(q) − KL(q‖p), so a text of "
    "low entropy can hide a distance, and greedy or selected samples even have φ̄ > 0.",
    "All numbers are of the model before training; weights change as it learns.",
    "A gap says how the texts are written, not whether they are right or worth learning.",
    "The rule was checked on one tiny model and one family of problems (docs/gap.md).",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    objective: str
    rewrite_more: bool
    reasons: tuple[str, ...]
    limits: tuple[str, ...] = LIMITS


def recommend(summary: GapSummary) -> Recommendation | None:
    """Returns the recommended objective and whether to rewrite more; None if no text was kept to train on."""
    kept = summary.group("kept")
    if kept is None:
        return None
    is_far = _upper_phi(kept) < NEAR_PHI
    objective, reason = _objective(kept, is_far=is_far)
    return Recommendation(
        objective=objective,
        rewrite_more=is_far,
        reasons=(
            _where_it_stands(kept, is_far=is_far),
            reason,
            *_source_with_most_gap(summary, kept, is_far=is_far),
        ),
    )


def _upper_phi(group: SourceGap) -> float:
    """Returns the upper end of phi's interval, so that a report on few rows gives no false alarm."""
    return group.mean_phi if group.high_phi is None else group.high_phi


def _where_it_stands(kept: SourceGap, *, is_far: bool) -> str:
    if is_far:
        return (
            f"φ̄ of the kept texts is {kept.mean_phi:+.3f}, clearly below {NEAR_PHI}: "
            f"{100 * kept.phi_below[1]:.1f} % of their tokens have φ < -3."
        )
    return f"φ̄ of the kept texts is {kept.mean_phi:+.3f}: they read like the model's own."


def _objective(kept: SourceGap, *, is_far: bool) -> tuple[str, str]:
    """Returns the objective and the reason for it."""
    weight = kept.weight("dft")
    mean_p = weight.mean if weight is not None else 1.0
    if mean_p < WEAK_PRIOR:
        return "sft", (
            f"The kept tokens have a mean probability of {mean_p:.2f}: weights by p would leave almost "
            "nothing to learn from (published finding, not measured here)."
        )
    if is_far:
        return "dft", (
            "Where part of the texts is foreign, weighting by p kept most of what SFT lost in our "
            "measurements; where all of it was, no objective did."
        )
    return "dft", "On texts this near SFT and DFT came out level in our measurements; either will do."


def _source_with_most_gap(summary: GapSummary, kept: SourceGap, *, is_far: bool) -> tuple[str, ...]:
    """Returns a sentence on the source that accounts for most of the kept texts' negative phi, if one
    does.
    """
    parts = [
        group
        for group in summary.groups
        if group.name not in ("kept", "demonstrations", "replaced", "sampled")
    ]
    total = sum(min(group.mean_phi, 0.0) * group.num_tokens for group in parts)
    if not is_far or len(parts) < 2 or not total:
        return ()
    worst = min(parts, key=lambda group: min(group.mean_phi, 0.0) * group.num_tokens)
    share = worst.mean_phi * worst.num_tokens / total
    return (
        f"{worst.num_rows:,} rows from {worst.name} ({worst.num_rows / kept.num_rows:.0%} of the rows) hold "
        f"{share:.0%} of the negative φ: rewrite or filter those first.",
    )
