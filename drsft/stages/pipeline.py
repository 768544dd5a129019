"""The whole run, stage after stage; each finds what it has already done, so the same command goes on."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa
import ray
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from drsft.config import DataView, RunConfig
from drsft.errors import ModelError, StageError, StorageError
from drsft.evaluate.contamination import measure_contamination
from drsft.evaluate.plans import plan_benchmarks
from drsft.gap.report import read_gap_report
from drsft.intake.planning import Plan, copy_plan, plan_problems, screens_for
from drsft.policy.prompts import check_length, check_vocabulary, load_prompter, model_location
from drsft.policy.provenance import model_fingerprint
from drsft.process.death_notice import last_word
from drsft.report.collect import collect, write_report
from drsft.report.terminal.comparison import COMPARISON_HEADER, ROUNDS_HEADER, comparison_rows, round_rows
from drsft.report.terminal.gap import gap_view
from drsft.rewrite.data_views import view_of
from drsft.run import layout, lease
from drsft.run.history import timed
from drsft.run.rounds import Round, Standing, plan_rounds
from drsft.run.run import round_store
from drsft.run.shards import ShardSet, remove_unnamed
from drsft.stages import evaluation, rewriting, scoring, survey, training
from drsft.stages.actors import quiet_ray_data
from drsft.stages.board import start_board, watched
from drsft.stages.cluster import check_resources, connected, quiet_stderr
from drsft.stages.draining import draining
from drsft.storage import Store, open_store
from drsft.storage.typed import read_stored
from drsft.verify.kinds import kinds_of

__all__ = ["STAGES", "run_pipeline"]

logger = logging.getLogger(__name__)

STAGES = ("rewrite", "gap", "train", "evaluate", "report")


def run_pipeline(config: RunConfig, *, stages: Sequence[str] = STAGES, console: Console) -> str:
    """Runs the named stages of the run that `config` describes; returns where the report or the run lies.

    A later round begins when the one before it is trained; until then its stages wait for it.
    """
    began_at = time.time()
    storage = open_store(config.storage)
    store = storage.within(config.run_id)
    _say(console, f"run {config.run_id} in {storage.url}")
    term = 0
    if stages != ("report",):
        plan = _plan(config, store)
        _say(console, _describe(plan))
        say = partial(_say, console)
        with lease.held(store, wait_s=config.resources.lease_wait_s, say=say) as held, ExitStack() as cluster:
            term = held.term
            _sweep(store)
            start = partial(timed, store, term, "start", began_at=began_at)
            connect = partial(_connect_once, cluster, config, console, start)
            for one in plan_rounds(config, store.url):
                if one.before is not None and (reason := _waits_for(one, store, plan, stages)):
                    _say(console, f"round {one.number} waits: {reason}")
                    break
                _run_round(one, store, plan, stages, connect, console, term)
            _sweep(store)
    if stages == ("gap",) and (found := read_gap_report(store)):
        console.print(gap_view(found))
    if "report" not in stages:
        return store.url
    with timed(store, term, "report"):
        return _report(config, store, console)


def _sweep(store: Store) -> None:
    """What killed processes left half-written, or without a commit. It hinders nobody here: this may fail."""
    try:
        if num_removed := store.sweep() + remove_unnamed(store):
            logger.info("removed %d objects that writers which were killed left", num_removed)
    except StorageError as error:
        logger.warning("%s", error)


def _run_round(
    one: Round,
    run: Store,
    plan: Plan,
    stages: Sequence[str],
    connect: Callable[[], None],
    console: Console,
    term: int,
) -> None:
    config, store = one.config, round_store(run, one)
    if one.before is not None:
        _say(console, f"round {one.number} in {store.url}")
        copy_plan(run, store)
    plans = _plan_benchmarks(config, store) if "evaluate" in stages else {}
    if plans:
        measure_contamination(config.evaluate, store, run, plan)
    _write_manifest(config, store)
    waiting = {
        "rewrite": not rewriting.is_complete(store, plan),
        "gap": not scoring.is_complete(store, config, plan),
        "train": not training.is_complete(store, config),
        "evaluate": "evaluate" in stages and not evaluation.is_complete(store, config, plans),
    }
    todo = [stage for stage in stages if waiting.get(stage)]
    if "evaluate" in todo and "train" not in stages and waiting["train"]:
        raise StageError(
            "there are models that are not trained yet; run drsft train (or drsft run) first, "
            "or give train.arms=[] to evaluate the target alone"
        )
    if todo:
        connect()
        check_resources(config.resources, todo)
        board = start_board(config.run_id)
        with watched(board, console), draining(board, config.resources.drain_s, console):
            for stage in todo:
                with timed(store, term, stage), _announced(board, stage):
                    _run_stage(stage, one, run, plan, plans, board)
                _sweep(store)
    for line in training.told_troubles(store, config) if "train" in todo else ():
        _say(console, f"warning: {line}")
    if one.before is not None:
        _say(console, _describe_saving(store, plan))


@contextmanager
def _announced(board: Any, stage: str) -> Iterator[None]:
    """Alerts on a stage hold while it runs."""
    board.running.remote(stage, True)
    try:
        yield
    finally:
        board.running.remote(stage, False)


def _run_stage(stage: str, one: Round, run: Store, plan: Plan, plans: dict[str, Plan], board: Any) -> None:
    config, store = one.config, round_store(run, one)
    match stage:
        case "rewrite":
            if one.before is not None:
                survey.run_survey(one, run, plan, board)
            before_url = round_store(run, one.before).url if one.before else None
            rewriting.run_rewriting(config, store.url, plan, board, number=one.number, before_url=before_url)
        case "gap":
            scoring.run_scoring(config, store.url, plan, board, number=one.number)
        case "train":
            read_view = partial(_read_view, config, _rewritten(store, plan), plan)
            training.run_training(config, store.url, read_view, board=board)
        case "evaluate":
            evaluation.run_evaluation(config, store.url, plans, board)


def _waits_for(one: Round, run: Store, plan: Plan, stages: Sequence[str]) -> str | None:
    """What must be done first, by other commands or by this one, before these stages of a later round."""
    store = round_store(run, one)
    if not run.exists(one.trained_key):
        return f"round {one.number - 1} is not trained yet"
    if "rewrite" not in stages and not rewriting.is_complete(store, plan):
        return "it is not rewritten yet; drsft rewrite goes on with it"
    if {"train", "evaluate"} & set(stages) == {"evaluate"} and not training.is_complete(store, one.config):
        return "it is not trained yet; drsft train goes on with it"
    return None


def _describe_saving(store: Store, plan: Plan) -> str:
    standings = survey.counts(store)
    tokens = sum(
        commit.summary["carried"]["tokens"] for commit in ShardSet(store, layout.RECORDS).commits().values()
    )
    unsolved, grew = standings[Standing.UNSOLVED], standings[Standing.GAP_GREW]
    return (
        f"{unsolved + grew:,} of {plan.num_problems:,} problems to be rewritten again "
        f"({unsolved:,} not solved alone, {grew:,} whose gap grew); "
        f"{standings[Standing.CARRIED]:,} carried over, which had cost {tokens:,} tokens"
    )


def _report(config: RunConfig, store: Store, console: Console) -> str:
    data = collect(config, store)
    if data.comparison:
        table = Table(*COMPARISON_HEADER, box=SIMPLE)
        for row in comparison_rows(data):
            table.add_row(*row)
        console.print(table)
    if data.rounds:
        table = Table(*ROUNDS_HEADER, box=SIMPLE)
        for row in round_rows(data):
            table.add_row(*row)
        console.print(table)
    for one in islice(plan_rounds(config, store.url), 1, len(data.rounds)):
        write_report(collect(one.config, round_store(store, one)), round_store(store, one))
    return write_report(data, store)


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _connect_once(
    cluster: ExitStack, config: RunConfig, console: Console, start: Callable[[], AbstractContextManager[None]]
) -> None:
    """Connects to Ray for the rest of the run, if that has not been done; `start` notes when it is."""
    if not ray.is_initialized():
        with start():
            cluster.enter_context(last_word())
            cluster.enter_context(quiet_stderr(console))
            cluster.enter_context(connected(dashboard_port=config.resources.dashboard_port))
            quiet_ray_data()


def _write_manifest(config: RunConfig, store: Store) -> None:
    """run.json is the first start's and says what the run is; config.json is the last start's, with the arms
    and benchmarks that it asked for."""
    fingerprint = model_fingerprint(model_location(config.target.model))
    manifest = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "target_fingerprint": fingerprint,
        "config": config.model_dump(),
    }
    if not store.create(layout.MANIFEST, json.dumps(manifest, indent=1).encode()):
        before = read_stored(store, layout.MANIFEST, dict[str, Any]).get("target_fingerprint", fingerprint)
        if before != fingerprint:
            raise ModelError(
                f"target.model {config.target.model!r} holds other files than when this run was started; "
                "rename the run or restore the model"
            )
    store.put(layout.CONFIG, config.model_dump_json(indent=1).encode())


def _plan(config: RunConfig, store: Store) -> Plan:
    check_length(config.target)
    prompter = load_prompter(config.target.model, config.target.prompts)
    kinds = kinds_of(config.rewrite.verification)
    check_vocabulary(config.target, prompter)
    return plan_problems(
        config.problems,
        store,
        layout.PROBLEMS,
        prompter=prompter,
        max_model_len=config.target.max_model_len,
        screens=screens_for(config.problems, config.evaluate.benchmarks, kinds=kinds),
        kinds=kinds,
    )


def _plan_benchmarks(config: RunConfig, store: Store) -> dict[str, Plan]:
    return plan_benchmarks(config, store, load_prompter(config.target.model, config.target.prompts))


def _describe(plan: Plan) -> str:
    aside = ", ".join(f"{count} {reason}" for reason, count in plan.quarantined.items())
    parts = [f"{plan.num_read:,} rows read", f"{plan.num_problems:,} problems"]
    if plan.num_duplicates:
        parts.append(f"{plan.num_duplicates:,} exact duplicates")
    if aside:
        parts.append(f"set aside: {aside} (see {layout.PROBLEMS.quarantine})")
    return ", ".join(parts)


def _rewritten(store: Store, plan: Plan) -> ShardSet:
    """The run's records. Raises StageError while some are missing."""
    shards = ShardSet(store, layout.RECORDS)
    missing = plan.shards.keys() - shards.done()
    if missing:
        raise StageError(
            f"{len(missing)} of {len(plan.shards)} shards are not rewritten; run drsft rewrite first"
        )
    return shards


def _read_view(config: RunConfig, shards: ShardSet, plan: Plan, data: DataView) -> pa.Table:
    """The rows of a data view of all records, by problem id. Shard by shard by the plan's names: nothing that
    a listing leaves out may be missing."""
    views = [
        view_of(shards.table(shard), data, config.rewrite, run_seed=config.seed) for shard in plan.shards
    ]
    return pa.concat_tables(views).sort_by("problem_id")
