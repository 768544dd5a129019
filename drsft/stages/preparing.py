"""Prepares a run's stages: plans its problems and benchmarks, and writes its manifest."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from drsft.config import Resources
from drsft.errors import ModelError, StorageError
from drsft.evaluate.plans import plan_benchmarks
from drsft.intake.planning import Planning, plan_in_order, screens_for
from drsft.policy.card_budget import check_cards
from drsft.policy.prompts import Prompter, check_length, model_location
from drsft.policy.provenance import model_fingerprint
from drsft.rewrite.hinted import hinted_prompter
from drsft.run import layout
from drsft.run.plan import Plan
from drsft.run.rounds import SurveyFinding, survey_counts
from drsft.run.run import Run
from drsft.run.shards import remove_unnamed
from drsft.run.summary import ShardCounts
from drsft.stages.turn import run_prompter
from drsft.storage import Store
from drsft.verify.kinds import kinds_of

__all__ = [
    "describe_carried_over",
    "describe_plan",
    "keep_resources",
    "plan_run",
    "plan_run_benchmarks",
    "sweep",
    "write_manifest",
]

logger = logging.getLogger(__name__)


def plan_run(run: Run, *, on_plan: Callable[[Plan], None] = lambda plan: None) -> Planning:
    """Checks the target's settings and returns a Planning, which reads the problems and divides them into
    shards.

    Raises ModelError if the assistant's turn does not fit the configuration. A later start reads the problems
    again: the Planning raises InputError if they have changed since the first start.
    """
    config = run.config
    check_cards(config.target, config.rewrite, config.resources.gpus_per_actor)
    check_length(config.target)
    prompter = run_prompter(config.target, run.store)
    for line in _peculiarities(prompter):
        logger.warning("the assistant's turn: %s; drsft doctor template shows it", line)
    if config.train.thoughts != "keep" and prompter.turn.thought is None:
        raise ModelError(
            f"train.thoughts: {config.train.thoughts}, but the target's chat template marks no thoughts; "
            "set target.thought, or train.thoughts: keep"
        )
    if config.rewrite.is_hinted:
        hinted_prompter(config.rewrite.hinted, prompter)  # every actor will build the same prompter
    kinds = kinds_of(config.rewrite.verification)
    shards = plan_in_order(
        config.problems,
        run.store,
        layout.PROBLEMS,
        prompter=prompter,
        max_model_len=config.target.max_model_len,
        screens=screens_for(config.problems, config.evaluate.benchmarks, kinds=kinds),
        kinds=kinds,
    )
    return Planning(shards, on_plan=on_plan)


def _peculiarities(prompter: Prompter) -> Iterator[str]:
    """Yields a line for each difference between the turn that is trained and the turn that the template
    renders.
    """
    if (reason := prompter.turn.differs_because) is not None:
        yield reason
    if prompter.is_cut_inside_a_token:
        yield (
            "in the rendered conversation one token spans the end of the prompt; sampling cannot produce it, "
            "so training splits the text there, as sampling does"
        )


def describe_plan(plan: Plan) -> str:
    aside = ", ".join(f"{count} {reason}" for reason, count in plan.quarantined.items())
    parts = [f"{plan.num_read:,} rows read", f"{plan.num_problems:,} problems"]
    if plan.num_duplicates:
        parts.append(f"{plan.num_duplicates:,} exact duplicates")
    if aside:
        parts.append(f"set aside: {aside} (see {layout.PROBLEMS.quarantine})")
    return ", ".join(parts)


def plan_run_benchmarks(run: Run) -> dict[str, Plan]:
    """Cuts the problems of every benchmark into shards, stores them, and returns the plans by name."""
    return plan_benchmarks(run, run_prompter(run.config.target, run.store))


def write_manifest(run: Run) -> None:
    """Writes the run's manifest at its first start, and its configuration at every start.

    Arms, benchmarks and numbers of workers may differ from start to start. Raises ModelError if the target's
    files have changed since the first start.
    """
    config = run.config
    fingerprint = model_fingerprint(model_location(config.target.model))
    manifest = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "target_fingerprint": fingerprint,
        "config": config.model_dump(mode="json"),
    }
    if not run.store.create(layout.MANIFEST, json.dumps(manifest, indent=1).encode()):
        before = run.manifest().target_fingerprint
        if before is not None and before != fingerprint:
            raise ModelError(
                f"the files of target.model {config.target.model!r} have changed since this run was started; "
                "rename the run or restore the model"
            )
    _keep_config(run, run.resources)


def keep_resources(run: Run, resources: Resources) -> Run:
    """Stores `resources`, with the chosen numbers of workers, CPUs and GPUs, in the run's configuration.

    Returns the run with these resources.
    """
    _keep_config(run, resources)
    return Run(run.store, run.config.model_copy(update={"resources": resources}))


def _keep_config(run: Run, resources: Resources) -> None:
    config = run.config.model_copy(update={"resources": resources})
    run.store.put(layout.CONFIG, config.model_dump_json(indent=1).encode())


def describe_carried_over(round_run: Run, plan: Plan) -> str:
    """Returns a sentence: how many problems a later round rewrites again, and how many records of the
    previous round it takes over unchanged.
    """
    findings = sum(survey_counts(round_run).values(), Counter())
    counts = ShardCounts.total(summary.counts for summary in round_run.summaries())
    unsolved, grew = findings[SurveyFinding.NOT_SOLVED_ALONE], findings[SurveyFinding.GAP_GREW]
    return (
        f"{unsolved + grew:,} of {plan.num_problems:,} problems are rewritten again "
        f"({unsolved:,} were not solved alone, the gap of {grew:,} grew); "
        f"{findings[SurveyFinding.CARRIED_OVER]:,} are carried over, "
        f"which had cost {counts.num_tokens_saved:,} tokens"
    )


def sweep(store: Store) -> None:
    """Removes what killed processes left half-written or uncommitted. A StorageError is only logged."""
    try:
        if num_removed := store.sweep() + remove_unnamed(store):
            logger.info("removed %d objects that killed writers had left in the store", num_removed)
    except StorageError as error:
        logger.warning("%s", error)
