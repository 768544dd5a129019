"""Keeps a run's progress: workers report to one board, a Ray actor on the driver's node.

A lost update changes only what is shown; finished work is read from the commits.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from drsft.policy.vllm.start_phases import EnginePhase
from drsft.process.metric_names import RUN_METRICS
from drsft.records import QuarantinedRow
from drsft.stages.engine_deaths import EngineDeaths, Permit
from drsft.stages.model_queues import ModelQueues
from drsft.stages.ray_metrics import RayMetrics
from drsft.stages.row_search import Culprit
from drsft.stages.shard_queue import Draw, NoShard, ShardQueue
from drsft.stages.stage_progress import StageProgress, StageState

__all__ = ["ProgressBoard", "ProgressReporter", "start_board", "stop_if_draining"]

Count = tuple[str, float, dict[str, str]]  # a counter's name without drsft_ and _total, how much, labels
TRAINING = {  # gauge -> metric of a step
    "loss": "loss",
    "effective_sample_size": "effective_sample_size",
    "clip_share": "clip_share",
    "tokens_per_second": "tokens_per_s",
}


class ProgressBoard:
    """Keeps the progress, the waiting shards and the engine deaths of each stage that has begun."""

    def __init__(self, run: str | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """With `run`, the run's name, progress is also exported to Prometheus (docs/metrics.md)."""
        self._clock = clock
        self._stages: dict[str, StageState] = {}
        self._is_draining = False
        self._metrics = RayMetrics(RUN_METRICS, {"run": run}) if run else None
        self._deaths: dict[str, EngineDeaths] = {}  # by stage, as the queues
        self._queues: dict[str, ShardQueue] = {}
        self._models: dict[str, ModelQueues] = {}
        self._set_aside: dict[str, list[QuarantinedRow]] = {}
        self._checkpoints: dict[tuple[str, str], float] = {}  # arm and seed -> the step it was saved after

    def drain(self) -> None:
        """Starts draining: no new work begins, and work in progress may finish."""
        self._is_draining = True

    def is_draining(self) -> bool:
        return self._is_draining

    def _get(self, stage: str) -> StageState:
        if stage not in self._stages:
            self._stages[stage] = StageState(stage=stage, began_s=self._clock())
        return self._stages[stage]

    def begin(
        self,
        stage: str,
        *,
        total: float = 0,
        done_before: float = 0,
        is_growing: bool = False,
        can_divide: bool = False,
    ) -> None:
        """Begins a stage anew: earlier starts have done `done_before` of its `total` units of work.

        With `is_growing`, the total grows with each call of `add_shards` until `close_shards`. EngineDeaths
        explains `can_divide`.
        """
        self._stages[stage] = StageState(
            stage=stage,
            began_s=self._clock(),
            total=total,
            done=done_before,
            done_before=done_before,
            is_growing=is_growing,
            note="starting",
        )
        self._queues[stage] = ShardQueue()
        self._deaths[stage] = EngineDeaths(can_divide=can_divide)
        self._set_aside[stage] = []
        self._set("last_commit_timestamp_seconds", time.time(), stage=stage)

    def add_shards(self, stage: str, shards: Sequence[str], *, num_problems: float, num_done: float) -> None:
        """Adds waiting shards to a growing stage, and `num_problems` to its total, `num_done` of them done.

        The counts may include shards that an earlier start has done, which are not in `shards`.
        """
        self._queues[stage].add(shards)
        self._get(stage).grow(num_problems, num_done)

    def close_shards(self, stage: str, *, drop: bool = False) -> None:
        """Records that no more shards are added to the stage. `drop` drops the shards that are not
        started.
        """
        self._queues[stage].close(drop=drop)
        self._get(stage).is_growing = False

    def next_shard(self, stage: str, slot: int, *, actor_id: str, node_id: str, finished: str | None) -> Draw:
        """Returns a slot's next shard, or the reason why there is none, as `ShardQueue.draw` does.

        A slot stands for one of the shards that an actor has in flight.

        The reason is NoShard.MORE while the run drains, and for an actor that was started again on another
        node, because this one was lost. After `set_models`, the shards are those of the model that the slot's
        engine has loaded.
        """
        if self._gets_no_work(stage, actor_id, node_id):
            return NoShard.MORE
        queue = self._models.get(stage) or self._queues[stage]
        return queue.draw(slot, finished=finished)

    def set_models(self, stage: str, models: ModelQueues) -> None:
        """Sets the work of a stage that has already begun: for each model, a queue of shards to be done."""
        self._models[stage] = models

    def next_model(self, stage: str, engine: int, *, actor_id: str, node_id: str) -> str | None:
        """Returns the model that an engine works with next (ModelQueues.next_model); None if it gets no more
        work, as in `next_shard`.
        """
        if self._gets_no_work(stage, actor_id, node_id):
            return None
        return self._models[stage].next_model(engine, given_up=self.given_up(stage))

    def _gets_no_work(self, stage: str, actor_id: str, node_id: str) -> bool:
        return self._is_draining or self._deaths[stage].is_replaced(actor_id, node_id)

    def is_asked(self, stage: str) -> bool:
        """Returns whether an engine of the stage is ready and has asked for its first shard."""
        return self._queues[stage].is_asked

    def engine_starts(self, stage: str, actor_id: str, node_id: str) -> bool:
        """Records the start of an engine's process; returns False if it has started too often
        (EngineDeaths.starts).
        """
        self._get(stage).engine_ends(actor_id)  # its process may have been another
        return self._deaths[stage].starts(actor_id, node_id)

    def engine_ready(self, stage: str, actor_id: str) -> None:
        self._deaths[stage].ready(actor_id)

    def work_begins(self, stage: str, actor_id: str, work: str, *, is_alone: bool) -> Permit:
        return self._deaths[stage].begins(actor_id, work, is_alone=is_alone)

    def work_ends(self, stage: str, actor_id: str, work: str) -> None:
        self._deaths[stage].ends(actor_id, work)

    def next_part(self, stage: str, work: str, num_rows: int) -> range | Culprit | None:
        """Returns the rows to run next by themselves, or the row to leave out; None if no single row is the
        cause (EngineDeaths.next_part).
        """
        return self._deaths[stage].next_part(work, num_rows)

    def part_survives(self, stage: str, work: str) -> None:
        self._deaths[stage].part_survives(work)

    def add_set_aside(self, stage: str, rows: Sequence[QuarantinedRow]) -> None:
        self._set_aside[stage] += rows

    def set_aside(self, stage: str) -> list[QuarantinedRow]:
        """Returns the rows that the stage has set aside in this start, because they killed their engine."""
        return self._set_aside[stage]

    def engine_is(self, stage: str, actor_id: str, phase: EnginePhase) -> None:
        """Records the current phase of an engine's start, such as reading weights."""
        self._get(stage).engine_is(actor_id, phase)
        self._get(stage).note = ""

    def engine_samples(
        self,
        stage: str,
        actor_id: str,
        num_new_tokens: int,
        num_in_flight: int,
        *,
        num_new_samples: int = 0,
    ) -> None:
        """Records the tokens and finished samples of an engine since its last report.

        `num_in_flight` is the number of samples that it has in flight now.
        """
        self._get(stage).engine_samples(
            actor_id, num_new_tokens, num_in_flight, num_new_samples=num_new_samples, now_s=self._clock()
        )

    def engine_ends(self, stage: str, actor_id: str) -> None:
        self._get(stage).engine_ends(actor_id)

    def engine_dies(self, stage: str, actor_id: str, cause: str) -> None:
        self.engine_ends(stage, actor_id)
        self._deaths[stage].dies(actor_id, cause)
        self.count([("engine_deaths", 1, {"stage": stage})])

    def given_up(self, stage: str) -> dict[str, str]:
        """Returns the names of the work that was skipped because it killed engines too often, each with the
        cause.
        """
        return self._deaths[stage].given_up

    def add(self, stage: str, *, done: float = 0, num_tokens: float = 0, **counts: float) -> None:
        """Adds the problems (`done`), tokens and other counts of one worker since its last message."""
        self._get(stage).add(done, num_tokens, counts, now_s=self._clock())
        self.count([("problems", done, {"stage": stage}), ("tokens", num_tokens, {"stage": stage})])
        self._tell_share(stage)

    def update(
        self,
        stage: str,
        *,
        done: float,
        total: float,
        note: str = "",
        left_s: float | None = None,
        **counts: float,
    ) -> None:
        """Sets the progress of a stage that a single process reports.

        `left_s` is that process's estimate of the seconds left; None if it has none.
        """
        self._get(stage).update(done, total, note, counts, left_s=left_s, now_s=self._clock())
        self._tell_share(stage)

    def running(self, stage: str, is_running: bool) -> None:
        self._set("stage_running", float(is_running), stage=stage)

    def count(self, counts: Sequence[Count]) -> None:
        """Increases Prometheus counters, each with its labels. Does nothing if the board was made without a
        run's name.
        """
        if self._metrics is None:
            return
        for name, amount, labels in counts:
            self._metrics.count(f"drsft_{name}_total", amount, **labels)
            if name == "shard_commits":
                self._set("last_commit_timestamp_seconds", time.time(), **labels)

    def trained(self, step: int, metrics: Mapping[str, float], *, arm: str, seed: str) -> None:
        """Sets the Prometheus gauges of a training (arm and seed) to its newest step and metrics."""
        self._set("training_step", step, arm=arm, seed=seed)
        for name, metric in TRAINING.items():
            if metric in metrics:
                self._set(f"training_{name}", metrics[metric], arm=arm, seed=seed)
        checkpoint_step = metrics.get("checkpoint_step", 0.0)
        if self._checkpoints.get((arm, seed)) != checkpoint_step:
            self._checkpoints[arm, seed] = checkpoint_step
            self._set("training_checkpoint_timestamp_seconds", time.time(), arm=arm, seed=seed)

    def _tell_share(self, stage: str) -> None:
        one = self._stages[stage]
        is_known = one.total and not one.is_growing
        self._set("stage_done_ratio", one.done / one.total if is_known else 0.0, stage=stage)

    def _set(self, name: str, value: float, **labels: str) -> None:
        if self._metrics is not None:
            self._metrics.set(f"drsft_{name}", value, **labels)

    def snapshot(self) -> list[StageProgress]:
        """Returns the current progress of all stages."""
        now_s = self._clock()
        return [state.at(now_s) for state in self._stages.values()]


def start_board(run: str | None = None) -> Any:
    """Starts a ProgressBoard as a Ray actor and returns its handle.

    The actor reserves no CPU and runs on the driver's node, as other nodes may be removed.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(ProgressBoard).remote(run)


class ProgressReporter:
    """Collects the counts of one worker and sends them to the board a few times a second.

    If `board` is None, nothing is sent.
    """

    def __init__(self, board: Any, stage: str, *, every_s: float = 0.5) -> None:
        self._board, self._stage, self._every_s = board, stage, every_s
        self._sums: dict[str, float] = {}
        self._counts: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._sent_s = 0.0

    def add(self, **amounts: float) -> None:
        for name, amount in amounts.items():
            self._sums[name] = self._sums.get(name, 0) + amount
        if time.monotonic() - self._sent_s >= self._every_s:
            self.flush()

    def count(self, name: str, amount: float = 1, /, **labels: str) -> None:
        """Increases the Prometheus counter `drsft_NAME_total` (drsft.process.metric_names).

        It is sent with the next update.
        """
        key = (name, tuple(labels.items()))
        self._counts[key] = self._counts.get(key, 0) + amount

    def flush(self) -> None:
        if self._board is not None and self._sums:
            self._board.add.remote(self._stage, **self._sums)
        if self._board is not None and self._counts:
            self._board.count.remote([(name, n, dict(labels)) for (name, labels), n in self._counts.items()])
        self._sums, self._counts, self._sent_s = {}, {}, time.monotonic()

    def is_draining(self) -> bool:
        """Returns whether the run is draining, so no further shard may begin; False if there is no board."""
        return self._board is not None and bool(ray.get(self._board.is_draining.remote()))


def stop_if_draining(board: Any) -> None:
    """Raises KeyboardInterrupt if the run is draining, since the stage may have ended before its work did."""
    if board is not None and ray.get(board.is_draining.remote()):
        raise KeyboardInterrupt("SIGTERM")
