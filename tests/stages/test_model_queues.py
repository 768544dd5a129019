"""Engines that draw from several models' queues do every shard once, and load models seldom and usefully."""

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from drsft.config.configfile import load_config
from drsft.sizing.estimate import StageEstimate, loads_of
from drsft.sizing.rates import StageRate
from drsft.stages.model_queues import ModelQueues
from drsft.stages.shard_queue import NoShard

QUICKSTART = Path(__file__).parents[2] / "jobs/configs/quickstart.yaml"
NO_ONE: tuple[str, ...] = ()


def queues_of(num_models: int, num_shards: int, *, slots_per_engine: int = 1) -> ModelQueues:
    shards = [f"math/{number:05d}" for number in range(num_shards)]
    models = {f"model-{number}": shards for number in range(num_models)}
    return ModelQueues.of(models, slots_per_engine=slots_per_engine)


def test_an_engine_keeps_its_model_while_shards_of_it_wait() -> None:
    queues = queues_of(2, 3)
    assert queues.next_model(0, given_up=NO_ONE) == "model-0"
    assert queues.next_model(1, given_up=NO_ONE) == "model-1"
    assert queues.draw(0, finished=None) == "math/00000"
    for _ in range(2):  # as an actor that is restarted
        assert queues.next_model(0, given_up=NO_ONE) == "model-0"
        assert queues.draw(0, finished=None) == "math/00000"
    assert queues.draw(0, finished="math/00000") == "math/00001"


def test_an_engine_helps_only_where_enough_is_left() -> None:
    queues = queues_of(2, 4)
    loaded = [queues.next_model(engine, given_up=NO_ONE) for engine in range(5)]
    assert loaded == ["model-0", "model-1", "model-0", "model-1", None], "two shards for each engine"
    assert queues_of(2, 4).most_engines == 4
    assert queues_of(3, 1).most_engines == 3


def test_a_model_that_no_engine_has_comes_before_help() -> None:
    queues = ModelQueues.of({"a": ["s"] * 100, "b": ["s"]}, slots_per_engine=1)
    assert [queues.next_model(engine, given_up=NO_ONE) for engine in range(3)] == ["a", "b", "a"]


def test_a_model_that_was_given_up_goes_to_no_engine() -> None:
    queues = queues_of(2, 8)
    assert queues.next_model(0, given_up=NO_ONE) == "model-0"
    assert queues.draw(0, finished=None) == "math/00000"
    assert queues.next_model(0, given_up=("model-0",)) == "model-1"
    assert queues.next_model(1, given_up=("model-0",)) == "model-1"
    assert queues.next_model(2, given_up=("model-0", "model-1")) is None


@pytest.mark.parametrize("seed", range(40))
def test_every_shard_is_finished_once_although_engines_are_cut_off(seed: int) -> None:
    draw = random.Random(seed)
    slots_per_engine = draw.randrange(1, 4)
    num_models, num_shards = draw.randrange(1, 6), draw.randrange(1, 20)
    queues = queues_of(num_models, num_shards, slots_per_engine=slots_per_engine)
    engines = [_Engine(number, slots_per_engine) for number in range(draw.randrange(1, 8))]
    finished: Counter[tuple[str, str]] = Counter()
    while working := [engine for engine in engines if not engine.is_ended]:
        engine = draw.choice(working)
        if draw.random() < 0.1:
            engine.dies(queues)
        elif engine.model is None:
            engine.loads(queues)
        else:
            finished.update(engine.steps(queues, draw))
    assert len(finished) == num_models * num_shards
    assert set(finished.values()) == {1}


@dataclass
class _Engine:
    """An actor: it loads, works in its slots until each is told that there is no more, and loads again."""

    number: int
    num_slots: int
    model: str | None = None
    is_ended: bool = False
    holds: dict[int, str | None] = field(default_factory=dict)  # by slot; a slot that is told to end is gone

    def loads(self, queues: ModelQueues) -> None:
        self.model = queues.next_model(self.number, given_up=NO_ONE)
        self.is_ended = self.model is None
        first = self.number * self.num_slots
        self.holds = dict.fromkeys(range(first, first + self.num_slots))

    def dies(self, queues: ModelQueues) -> None:
        before, held = self.model, {shard for shard in self.holds.values() if shard is not None}
        self.loads(queues)
        if held:
            assert self.model == before
            drawn = {slot: queues.draw(slot, finished=None) for slot in self.holds}
            self.holds = {slot: None if one is NoShard.MORE else str(one) for slot, one in drawn.items()}
            assert held <= set(self.holds.values())

    def steps(self, queues: ModelQueues, draw: random.Random) -> list[tuple[str, str]]:
        slot = draw.choice(list(self.holds))
        shard = self.holds[slot]
        drawn = queues.draw(slot, finished=shard)
        if drawn is NoShard.MORE:
            del self.holds[slot]
        else:
            self.holds[slot] = str(drawn)
        done = [(str(self.model), shard)] if shard is not None else []
        if not self.holds:
            self.model = None
        return done


LOAD_S, SHARD_S = 60.0, 60.0


def simulated(num_engines: int, num_models: int, num_shards: int) -> tuple[float, int]:
    """The seconds until the last shard is done, when each takes SHARD_S and each load LOAD_S, with the first
    loads left out, and the number of loads."""
    queues = queues_of(num_models, num_shards)
    num_loads, ended_s = 0, 0.0
    waiting: list[tuple[float, int, str | None]] = [(0.0, engine, None) for engine in range(num_engines)]
    is_loaded: set[int] = set()
    while waiting:
        now_s, engine, finished = heapq.heappop(waiting)
        drawn = queues.draw(engine, finished=finished) if engine in is_loaded else NoShard.MORE
        if isinstance(drawn, str):
            heapq.heappush(waiting, (now_s + SHARD_S, engine, drawn))
            ended_s = max(ended_s, now_s + SHARD_S)
        elif queues.next_model(engine, given_up=NO_ONE) is not None:
            heapq.heappush(waiting, (now_s + LOAD_S, engine, None))
            is_loaded.add(engine)
            num_loads += 1
    return ended_s - LOAD_S, num_loads


@pytest.mark.parametrize(
    ("num_engines", "num_models", "num_shards"),
    [
        (1, 3, 4),
        (2, 3, 1),
        (8, 5, 26),
        (8, 8, 26),
        (8, 10, 26),
        (8, 1, 26),
        (16, 5, 26),
        (3, 2, 12),
        (8, 13, 40),
    ],
)
def test_the_plan_differs_by_a_shard_at_most(num_engines: int, num_models: int, num_shards: int) -> None:
    seconds, _ = simulated(num_engines, num_models, num_shards)
    planned = planned_s(num_engines, num_models, num_shards)
    assert abs(seconds - planned) <= max(SHARD_S, LOAD_S)


def planned_s(num_engines: int, num_models: int, num_shards: int) -> float:
    arms = ", ".join(f"{{name: arm-{number}}}" for number in range(num_models - 1))
    few = ("train.seeds=[0]", f"train.arms=[{arms}]", "evaluate.num_samples=1")
    config = load_config(QUICKSTART, [*few, f"resources.rewrite_actors={num_engines}"])
    sizes = {"num_benchmark_problems": num_shards, "num_benchmark_shards": num_shards}
    load = loads_of(config, num_problems=1, **sizes)["evaluate"]
    rate = StageRate(startup_s=0, tokens_per_unit=1, tokens_per_s=1 / SHARD_S, item_s=LOAD_S)
    return StageEstimate(stage="evaluate", load=load, rate=rate).seconds


def test_eight_engines_for_five_models_are_all_busy() -> None:
    """Five of them would take 26 shards each, one after the other, beside three idle ones."""
    seconds, num_loads = simulated(8, 5, 26)
    assert seconds <= 5 / 8 * 26 * SHARD_S * 1.2
    assert num_loads <= 5 + 2 * 8
