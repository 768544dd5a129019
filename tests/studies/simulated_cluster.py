"""A cluster of engines on a virtual clock. The rewriting is the job's own code; engines and Ray are not.

An engine serves `seats` samples at once, first come first served; a sample holds its seat for as long as its
tokens take. That is continuous batching with a full batch, where the time of a step hardly depends on what is
in it. An actor keeps a number of shards in flight; when its engine dies, they are lost and go to the others,
and a new engine takes its place after a while. So does Ray Data with its pool of actors.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from drsft.policy.fake import FakePolicy
from drsft.policy.protocol import Policy
from drsft.records import Completion
from drsft.rewrite.shard import ShardRewriter

__all__ = ["ClusterSettings", "SimulatedCluster", "SimulatedEngine"]

MakeRewriter = Callable[[Policy], ShardRewriter]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    num_engines: int = 64
    seats: int = 256  # vLLM's max_num_seqs
    seconds_per_token: float  # of one sample, in a full batch
    slow_share: float = 0.01  # of requests
    slow_factor: float = 10.0
    seconds_between_deaths: float | None = 600.0
    restart_s: float = 120.0  # until another engine is up in its place
    shards_in_flight: int = 16
    problems_in_flight: int = 256


@dataclass(slots=True, eq=False)
class _Request:
    served: asyncio.Future[None]
    seconds_per_token: float
    num_left: int  # samples that are not done yet
    seated: dict[int, asyncio.TimerHandle] = field(default_factory=dict)  # when a sample will be done
    is_gone: bool = False  # its caller was cancelled


class SimulatedEngine:
    """`num_running` seats are taken now; `num_tokens` were sampled so far, of use or not."""

    def __init__(self, settings: ClusterSettings, draws: random.Random) -> None:
        self._settings, self._draws = settings, draws
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[_Request, int, int]] = deque()  # request, sample index, tokens
        self.num_running = 0
        self.num_tokens = 0.0

    async def serve(self, completions: Sequence[Completion]) -> None:
        """Returns when all samples of the request are done; frees their seats when it is cancelled."""
        settings = self._settings
        factor = settings.slow_factor if self._draws.random() < settings.slow_share else 1.0
        request = _Request(
            self._loop.create_future(), settings.seconds_per_token * factor, num_left=len(completions)
        )
        self._waiting.extend((request, i, len(one.token_ids)) for i, one in enumerate(completions))
        self._seat_the_next()
        try:
            await request.served
        except asyncio.CancelledError:
            self._drop(request)
            raise

    def _seat_the_next(self) -> None:
        while self._waiting and self.num_running < self._settings.seats:
            request, index, num_tokens = self._waiting.popleft()
            if not request.is_gone:
                self.num_running += 1
                seconds = num_tokens * request.seconds_per_token
                timer = self._loop.call_later(seconds, self._finish, request, index)
                request.seated[index] = timer
                self.num_tokens += num_tokens

    def _finish(self, request: _Request, index: int) -> None:
        del request.seated[index]
        self.num_running -= 1
        request.num_left -= 1
        if request.num_left == 0 and not request.served.done():
            request.served.set_result(None)
        self._seat_the_next()

    def _drop(self, request: _Request) -> None:
        request.is_gone = True
        for timer in request.seated.values():
            timer.cancel()
            self.num_running -= 1
            self.num_tokens -= max(0.0, timer.when() - self._loop.time()) / request.seconds_per_token
        request.seated.clear()
        self._seat_the_next()


class SimulatedCluster:
    """Takes shards until all are committed; `utilisation` has one sample for every `sample_every_s`."""

    def __init__(
        self,
        settings: ClusterSettings,
        shards: Sequence[str],
        answer: Callable[[Sequence[int], int], Completion],
        make_rewriter: MakeRewriter,
        *,
        seed: int = 0,
        sample_every_s: float = 20.0,
    ) -> None:
        self._settings, self._answer, self._make_rewriter = settings, answer, make_rewriter
        self._draws = random.Random(seed)
        self._queue = deque(shards)
        self._num_left = len(shards)
        self._changed = asyncio.Event()
        self._engines: dict[int, SimulatedEngine] = {}
        self._lives: dict[int, asyncio.Task[None]] = {}
        self._sample_every_s = sample_every_s
        self.utilisation: list[float] = []  # share of all seats, dead engines' included
        self.num_deaths = 0
        self.num_lost_shards = 0
        self.num_tokens = 0.0  # sampled, lost ones included
        self.queue_empty_at_s = 0.0
        self.ended_at_s = 0.0

    async def run(self) -> None:
        """Until the last commit."""
        actors = [asyncio.create_task(self._keep_alive(i)) for i in range(self._settings.num_engines)]
        others = [asyncio.create_task(self._watch()), asyncio.create_task(self._kill())]
        await asyncio.gather(*actors)
        for task in others:
            task.cancel()

    async def _keep_alive(self, number: int) -> None:
        """One engine after another in the same place."""
        while self._num_left:
            engine = self._engines[number] = SimulatedEngine(self._settings, self._draws)
            rewriter = self._make_rewriter(FakePolicy(self._answer, serve=engine.serve))
            life = self._lives[number] = asyncio.create_task(self._live(rewriter))
            await asyncio.wait([life])
            self.num_tokens += engine.num_tokens
            del self._engines[number], self._lives[number]
            if not life.cancelled():
                life.result()
                return
            await asyncio.sleep(self._settings.restart_s)

    async def _live(self, rewriter: ShardRewriter) -> None:
        await asyncio.gather(*(self._lane(rewriter) for _ in range(self._settings.shards_in_flight)))

    async def _lane(self, rewriter: ShardRewriter) -> None:
        while self._num_left:
            if not self._queue:
                await self._changed.wait()
                continue
            shard = self._queue.popleft()
            if not self._queue:
                self._changed.clear()
                self.queue_empty_at_s = asyncio.get_running_loop().time()
            try:
                await rewriter.rewrite(shard)
            except asyncio.CancelledError:
                self.num_lost_shards += 1
                self._queue.appendleft(shard)
                self._changed.set()
                raise
            self._num_left -= 1
            if not self._num_left:
                self.ended_at_s = asyncio.get_running_loop().time()
                self._changed.set()

    async def _kill(self) -> None:
        between_s = self._settings.seconds_between_deaths
        while between_s is not None:
            await asyncio.sleep(between_s)
            if self._lives:
                self.num_deaths += 1
                self._lives[self._draws.choice(sorted(self._lives))].cancel()

    async def _watch(self) -> None:
        num_seats = self._settings.num_engines * self._settings.seats
        while self._num_left:
            await asyncio.sleep(self._sample_every_s)
            self.utilisation.append(sum(engine.num_running for engine in self._engines.values()) / num_seats)

    def tenths(self) -> Iterator[float]:
        """Mean utilisation in each tenth of the time."""
        cuts = [len(self.utilisation) * i // 10 for i in range(11)]
        for start, end in pairwise(cuts):
            part = self.utilisation[start:end]
            yield sum(part) / max(1, len(part))
