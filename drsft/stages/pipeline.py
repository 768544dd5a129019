"""Runs the whole run, round after round and stage after stage.

A stage skips what it has already committed, so the same command resumes a run.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import ray
from rich.console import Console

from drsft.config import Resources, RunConfig
from drsft.errors import DamagedError, StageError
from drsft.evaluate.contamination import measure_contamination
from drsft.gap.report import read_gap_report
from drsft.intake.planning import Planning
from drsft.policy.vllm.options import check_options
from drsft.process.death_notice import notice_if_killed
from drsft.report.terminal.gap import gap_view
from drsft.rewrite.data_views import rows_of_view
from drsft.run import lease
from drsft.run.history import timed
from drsft.run.plan import Plan, copy_plan
from drsft.run.rounds import Round, rounds_of
from drsft.run.run import Run, run_of
from drsft.run.shards import withdraw_damaged
from drsft.stages import evaluation, gap, rewriting, survey, training
from drsft.stages.actors import quiet_ray_data
from drsft.stages.announcer import SHARDS_BEFORE_ENGINES
from drsft.stages.cluster import check_resources, connected, is_own_machine, quiet_stderr
from drsft.stages.draining import draining
from drsft.stages.preparing import (
    describe_carried_over,
    describe_plan,
    keep_resources,
    plan_run,
    plan_run_benchmarks,
    sweep,
    write_manifest,
)
from drsft.stages.progress_board import start_board
from drsft.stages.progress_display import OnLines, progress_shown
from drsft.stages.reporting import show_and_write_report
from drsft.stages.settled_resources import settled_resources
from drsft.stages.turn import copy_turn
from drsft.storage import open_store
from drsft.storage.promises import check_promises

__all__ = ["STAGES", "run_pipeline"]

STAGES = ("rewrite", "gap", "train", "evaluate", "report")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """The objects that all rounds use in one start of a run. `connect` connects to Ray, once."""

    run: Run
    planning: Planning
    stages: Sequence[str]
    term: int  # of the lease
    connect: Callable[[], None]
    console: Console
    on_lines: OnLines

    @property
    def plan(self) -> Plan:
        """The shards and counts of all problems.

        It is available once all problems are read, which is certain after the first round's rewriting.
        """
        assert self.planning.plan is not None
        return self.planning.plan

    def say(self, line: str) -> None:
        _say(self.console, line)


def run_pipeline(
    config: RunConfig,
    *,
    stages: Sequence[str] = STAGES,
    console: Console,
    on_lines: OnLines = lambda lines: None,
) -> str:
    """Runs the named stages of the run that `config` describes.

    Returns the URL of the report's page; without the stage "report", that of the run's folder. Commits of
    damaged shards are removed; the shards are computed again if their stage is among `stages`. `on_lines` is
    called a few times a second with one line for each stage that has begun.
    """
    run = partial(_run_pipeline, config, stages=stages, console=console, on_lines=on_lines)
    try:
        return run()
    except DamagedError as error:
        withdrawn = withdraw_damaged(run_of(config).store)
        if not withdrawn:
            raise
        _say(console, f"warning: {error}")
        _say(console, f"these damaged commits are removed and computed again: {', '.join(withdrawn)}")
    return run()


def _run_pipeline(config: RunConfig, *, stages: Sequence[str], console: Console, on_lines: OnLines) -> str:
    began_at = time.time()
    run, term = run_of(config), 0
    _say(console, f"run {config.run_id} in {open_store(config.storage).url}")
    if stages != ("report",):
        if {"rewrite", "evaluate"} & set(stages):
            check_options(config.target, is_own_machine=is_own_machine())
        check_promises(run.store)
        say = partial(_say, console)
        wait_s = config.resources.lease_wait_s
        with lease.held(run.store, wait_s=wait_s, say=say) as held, ExitStack() as cluster:
            term = held.term
            sweep(run.store)
            until_connected = partial(timed, run.store, term, "start", began_at=began_at)
            connect = partial(_connect_once, cluster, config.resources, console, until_connected)
            with closing(_begin_planning(run, stages, say)) as planning:
                _run_rounds(
                    _Start(
                        run=run,
                        planning=planning,
                        stages=stages,
                        term=term,
                        connect=connect,
                        console=console,
                        on_lines=on_lines,
                    )
                )
    if stages == ("gap",) and (found := read_gap_report(run.store)):
        console.print(gap_view(found))
    if "report" not in stages:
        return run.url
    with timed(run.store, term, "report"):
        return show_and_write_report(run, console)


def _begin_planning(run: Run, stages: Sequence[str], say: Callable[[str], None]) -> Planning:
    """Returns a planning that has read all problems, or only the first ones if rewriting can begin with
    those.
    """
    planning = plan_run(run, on_plan=lambda plan: say(describe_plan(plan)))
    before = run.plan()
    is_rewritten = before is not None and rewriting.is_complete(run, before)
    if "rewrite" in stages and not is_rewritten and run.config.rewrite.tokens_per_run is None:
        for _ in islice(planning.further(), SHARDS_BEFORE_ENGINES):
            pass
    else:
        planning.finish()
    return planning


def _run_rounds(start: _Start) -> None:
    """Runs the rounds in order; a later round begins when the one before it is trained."""
    for one in rounds_of(start.run):
        if one.before is not None and (reason := _waits_for(one, start)):
            start.say(f"round {one.number} waits: {reason}")
            break
        _run_round(one, start)
    sweep(start.run.store)


def _waits_for(one: Round, start: _Start) -> str | None:
    """Returns the reason why these stages of a later round cannot run yet, or None."""
    if not one.has_target:
        return f"round {one.number - 1} is not trained yet"
    if "rewrite" not in start.stages and not rewriting.is_complete(one.run, start.plan):
        return "it is not rewritten yet; drsft rewrite resumes it"
    if {"train", "evaluate"} & set(start.stages) == {"evaluate"} and not training.is_complete(one.run):
        return "it is not trained yet; drsft train resumes it"
    return None


def _run_round(one: Round, start: _Start) -> None:
    run = one.run
    if one.before is not None:
        start.say(f"round {one.number} in {run.url}")
        copy_plan(start.run.store, run.store)
        copy_turn(start.run.store, run.store)
    plans = plan_run_benchmarks(run) if "evaluate" in start.stages else {}
    write_manifest(run)
    todo = _stages_to_run(run, start, plans)
    if todo:
        start.connect()
        run = keep_resources(run, settled_resources(run.config.target, run.config.resources))
        one = replace(one, run=run)
        check_resources(run.config.resources, todo)
        board = start_board(run.config.run_id)
        with (
            progress_shown(board, start.console, on_lines=start.on_lines),
            draining(board, run.config.resources.drain_s, start.console),
        ):
            for stage in todo:
                with timed(run.store, start.term, stage), _announced(board, stage):
                    _run_stage(stage, one, start, plans, board)
                sweep(run.store)
    if plans:
        measure_contamination(run, start.run.store, start.plan)
    for line in training.told_troubles(run) if "train" in todo else ():
        start.say(f"warning: {line}")
    if one.before is not None:
        start.say(describe_carried_over(run, start.plan))


def _stages_to_run(run: Run, start: _Start, plans: Mapping[str, Plan]) -> list[str]:
    is_untrained = not training.is_complete(run)
    plan = start.planning.plan
    is_incomplete = {
        "rewrite": plan is None or not rewriting.is_complete(run, plan),
        "gap": plan is None or not gap.is_complete(run, plan),
        "train": is_untrained,
        "evaluate": "evaluate" in start.stages and not evaluation.is_complete(run, plans),
    }
    todo = [stage for stage in start.stages if is_incomplete.get(stage)]
    if "evaluate" in todo and "train" not in start.stages and is_untrained:
        raise StageError(
            "there are models that are not trained yet; run drsft train (or drsft run) first, "
            "or give train.arms=[] to evaluate the target alone"
        )
    return todo


def _run_stage(stage: str, one: Round, start: _Start, plans: Mapping[str, Plan], board: Any) -> None:
    run, config = one.run, one.run.config
    match stage:
        case "rewrite":
            if one.before is not None:
                survey.run_survey(one, start.plan, board)
            before_url = one.before.run.url if one.before else None
            rewriting.run_rewriting(
                config, run.url, start.planning, board, number=one.number, before_url=before_url
            )
        case "gap":
            gap.run_gap(config, run.url, start.plan, board, number=one.number)
        case "train":
            training.run_training(config, run.url, partial(rows_of_view, run, start.plan), board=board)
        case "evaluate":
            evaluation.run_evaluation(run, plans, board)


@contextmanager
def _announced(board: Any, stage: str) -> Iterator[None]:
    """Marks a stage as running for the length of the block, since alerts apply only while it runs."""
    board.running.remote(stage, True)
    try:
        yield
    finally:
        board.running.remote(stage, False)


def _connect_once(
    cluster: ExitStack,
    resources: Resources,
    console: Console,
    until_connected: Callable[[], AbstractContextManager[None]],
) -> None:
    """Connects to Ray for the rest of the run, if not yet connected, and records the time until then."""
    if not ray.is_initialized():
        with until_connected():
            cluster.enter_context(notice_if_killed())
            cluster.enter_context(quiet_stderr(console))
            cluster.enter_context(connected(dashboard_port=resources.dashboard_port))
            quiet_ray_data()


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
