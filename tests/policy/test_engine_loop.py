"""The loop around any engine: who hears of a refusal, and who of a death."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from drsft.errors import InputError, StageError
from drsft.policy.engine_loop import EngineCounts, EngineLoop, EngineRequest, check_token_ids, settle


@dataclass(frozen=True)
class Request:
    request_id: str
    future: asyncio.Future[str]
    loop: asyncio.AbstractEventLoop
    num_steps: int = 3


class Panic(BaseException):
    """As a Rust library's: no Exception."""


class CountingEngine:
    """Settles a request after so many steps; fails where a request's id asks for it."""

    def __init__(self) -> None:
        self.left: dict[str, tuple[Request, int]] = {}
        self.cancelled: list[str] = []
        self.is_closed = threading.Event()

    @property
    def is_idle(self) -> bool:
        return not self.left

    def counts(self) -> EngineCounts:
        return EngineCounts(0, len(self.left), 0)

    def unfinished(self) -> Sequence[EngineRequest]:
        return [request for request, _ in self.left.values()]

    def add(self, request: Request) -> None:
        match request.request_id:
            case "refused":
                raise LookupError("no such thing\nand a second line")
            case "panics":
                raise Panic
        self.left[request.request_id] = (request, request.num_steps)

    def cancel(self, request_id: str) -> None:
        self.cancelled.append(request_id)
        del self.left[request_id]

    def step(self) -> None:
        for name, (request, num_left) in list(self.left.items()):
            if name == "kills":
                raise ZeroDivisionError("division\nby zero")
            if name == "kills in Rust":
                raise Panic("panicked at src/lib.rs")
            self.left[name] = (request, num_left - 1)
            if num_left == 1:
                del self.left[name]
                settle([(request, f"{name} done")])

    def close(self) -> None:
        self.is_closed.set()


def ask(loop: EngineLoop[CountingEngine], *names: str) -> list[str | BaseException]:
    async def together() -> list[str | BaseException]:
        here = asyncio.get_running_loop()
        requests = [Request(name, here.create_future(), here) for name in names]
        for request in requests:
            loop.add(request)
        async with asyncio.timeout(30):
            return await asyncio.gather(*(one.future for one in requests), return_exceptions=True)

    return asyncio.run(together())


@pytest.mark.parametrize(
    ("name", "line"), [("refused", "no such thing"), ("panics", "Panic")], ids=["any error", "a panic"]
)
def test_a_request_that_the_engine_does_not_take_ends_in_one_line_and_its_neighbours_go_on(
    name: str, line: str
) -> None:
    loop = EngineLoop(CountingEngine, name="counting engine")
    before, refused, after = ask(loop, "before", name, "after")
    assert (before, after) == ("before done", "after done")
    assert isinstance(refused, InputError)
    assert str(refused) == f"the engine rejected a request: {line}"
    assert ask(loop, "later") == ["later done"]
    loop.check(max_silence_s=30)
    loop.close()


@pytest.mark.parametrize("name", ["kills", "kills in Rust"])
def test_a_death_reaches_all_that_wait_and_all_that_come_with_its_cause(name: str) -> None:
    loop = EngineLoop(CountingEngine, name="counting engine")
    for names in (("before", name, "after"), ("later",)):
        for result in ask(loop, *names):
            assert isinstance(result, StageError)
            assert str(result).startswith("the counting engine died: ")
            assert "\n" not in str(result)
            assert isinstance(result.__cause__, ZeroDivisionError if name == "kills" else Panic)
    with pytest.raises(
        StageError, match=r"the counting engine died: (ZeroDivisionError: division|Panic: panicked)"
    ):
        loop.check(max_silence_s=30)
    engine = loop.engine
    loop.close()
    assert engine.is_closed.is_set()


def test_what_building_raises_comes_out_of_the_constructor() -> None:
    def build() -> CountingEngine:
        raise Panic("at the start")

    with pytest.raises(Panic, match="at the start"):
        EngineLoop(build, name="counting engine")


def test_ids_outside_the_embedding_are_named() -> None:
    check_token_ids([], 5)
    check_token_ids([0, 4], 5)
    for wrong in (5, -1):
        with pytest.raises(InputError, match=f"token id {wrong}, and the model's embedding has 5 rows"):
            check_token_ids([0, wrong, 4], 5)
