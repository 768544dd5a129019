"""Divides the shards of several models among engines. It does not use Ray.

An engine has one model loaded. It keeps that model while shards of it are waiting. Then it loads a model that
no engine has. If there is none, it joins the model with the most waiting shards per engine (counting itself),
but only if enough shards are left to be worth a load (benchmark_shards.most_engines).
"""

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from drsft.evaluate.benchmark_shards import most_engines
from drsft.stages.shard_queue import Draw, ShardQueue

__all__ = ["ModelQueues"]


@dataclass(slots=True)
class ModelQueues:
    slots_per_engine: int  # engine 2 has the slots from 2 * slots_per_engine
    _queues: dict[str, ShardQueue]  # by model
    _loaded: dict[int, str] = field(default_factory=dict)  # by engine

    @classmethod
    def of(cls, shards: Mapping[str, Iterable[str]], *, slots_per_engine: int) -> Self:
        """Returns queues of the given shards, by model."""
        queues = {model: ShardQueue() for model in shards}
        for model, queue in queues.items():
            queue.add(shards[model])
            queue.close()
        return cls(slots_per_engine, queues)

    @property
    def most_engines(self) -> int:
        """The number of engines that would get work if all began at once."""
        return sum(most_engines(queue.num_waiting) for queue in self._queues.values() if queue.num_waiting)

    def next_model(self, engine: int, *, given_up: Container[str]) -> str | None:
        """Returns the model that an engine loads or keeps; None if the engine is no longer needed.

        An engine that was restarted gets the model that it had. Models that are `given_up` go to no engine.
        """
        model = self._loaded.pop(engine, None)
        if model is None or model in given_up or not self._queues[model].has_work_for(self._slots(engine)):
            model = self._model_to_load(given_up)
        if model is not None:
            self._loaded[engine] = model
        return model

    def draw(self, slot: int, *, finished: str | None) -> Draw:
        """Returns the next shard of the model that the slot's engine has, as `ShardQueue.draw` does."""
        model = self._loaded[slot // self.slots_per_engine]
        return self._queues[model].draw(slot, finished=finished)

    def _slots(self, engine: int) -> range:
        return range(engine * self.slots_per_engine, (engine + 1) * self.slots_per_engine)

    def _model_to_load(self, given_up: Container[str]) -> str | None:
        waiting = {
            model: queue.num_waiting
            for model, queue in self._queues.items()
            if queue.num_waiting and model not in given_up
        }
        if not waiting:
            return None
        num_engines = Counter(self._loaded.values())
        model = max(waiting, key=lambda one: (not num_engines[one], waiting[one] / (num_engines[one] + 1)))
        return model if num_engines[model] < most_engines(waiting[model]) else None
