"""What a run shows of its stages is true: phases of engines, samples in flight, rates, times left.

The board, its lines and the log's printer are the real ones; the clock is the test's.
"""

import io
import re
from dataclasses import dataclass

import pytest
from rich.console import Console

from drsft.policy.vllm.start_phases import EnginePhase
from drsft.stages.progress_board import ProgressBoard
from drsft.stages.progress_display import LinePrinter, progress_line
from drsft.stages.shard_queue import NoShard
from drsft.stages.stage_progress import StageProgress


@dataclass
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> ProgressBoard:
    board = ProgressBoard(clock=clock)
    board.begin("rewrite", total=16)
    return board


def line(board: ProgressBoard) -> str:
    return progress_line(board.snapshot()[-1])


def test_a_slow_start_is_told_phase_by_phase_and_has_no_rate(board: ProgressBoard, clock: Clock) -> None:
    """Four minutes showed "0/16 starting", and then 107,426 tokens/s."""
    assert line(board) == "rewrite    0/16  starting"
    told = []
    for phase in (EnginePhase.LOADING, EnginePhase.READING, EnginePhase.COMPILING, EnginePhase.READY):
        clock.now_s += 60
        board.engine_is("rewrite", "a", phase)
        told.append(line(board))
    assert [one.removeprefix("rewrite    0/16  ") for one in told] == [
        "loading vLLM", "reading weights", "compiling", "waiting for work",
    ]  # fmt: skip
    board.engine_samples("rewrite", "a", 0, 24)
    assert line(board) == "rewrite    0/16  24 in flight  first tokens"
    clock.now_s += 2
    board.engine_samples("rewrite", "a", 480, 24)
    assert line(board) == "rewrite    0/16  24 in flight  240 tokens/s"


def test_the_first_finished_record_gives_no_rate_of_its_own(board: ProgressBoard, clock: Clock) -> None:
    board.engine_samples("rewrite", "a", 0, 8)
    for _ in range(30):
        clock.now_s += 2
        board.engine_samples("rewrite", "a", 100, 8)
    board.add("rewrite", done=1, num_tokens=300, own=1)
    (stage,) = board.snapshot()
    assert stage.tokens_per_s == pytest.approx(50)
    assert stage.remaining_s == pytest.approx((15 * 300 - (3000 - 300)) / 50)
    clock.now_s += 10
    assert stage.elapsed_s == pytest.approx(60)


def test_a_pause_between_two_models_at_most_doubles_the_time_left(board: ProgressBoard, clock: Clock) -> None:
    """Evaluation said "386:00:07 left" while its next model was loaded."""
    for _ in range(20):
        clock.now_s += 2
        board.engine_samples("rewrite", "a", 100, 8)
    board.add("rewrite", done=8, num_tokens=2000)
    (before,) = board.snapshot()
    clock.now_s += 30
    board.engine_samples("rewrite", "a", 1, 8)
    (after,) = board.snapshot()
    assert before.remaining_s is not None
    assert after.remaining_s == pytest.approx(before.remaining_s, rel=1.0)


def test_engines_that_start_beside_others_are_counted_by_phase(board: ProgressBoard, clock: Clock) -> None:
    for engine in "abc":
        board.engine_is("rewrite", engine, EnginePhase.READING)
    assert line(board).endswith("reading weights")
    board.engine_is("rewrite", "c", EnginePhase.WARMING_UP)
    assert line(board).endswith("2 reading weights, 1 warming up")
    board.engine_samples("rewrite", "c", 10, 4)
    assert line(board).endswith("4 in flight  2 reading weights")


def test_a_new_engine_in_a_dead_ones_place_starts_anew(board: ProgressBoard, clock: Clock) -> None:
    board.engine_starts("rewrite", "a", "node")
    board.engine_samples("rewrite", "a", 500, 64)
    board.engine_dies("rewrite", "a", "cause")
    (stage,) = board.snapshot()
    assert (stage.num_in_flight, dict(stage.engines)) == (0, {})
    board.engine_starts("rewrite", "a", "node")
    board.engine_is("rewrite", "a", EnginePhase.READING)
    clock.now_s += 1
    board.engine_samples("rewrite", "a", 100, 3)
    (stage,) = board.snapshot()
    assert (stage.num_in_flight, stage.tokens_per_s) == (3, 100)


def test_an_actor_on_a_lost_node_gets_no_more_shards_when_it_returns(board: ProgressBoard) -> None:
    board.add_shards("rewrite", ["00000", "00001"], num_problems=8, num_done=0)
    board.close_shards("rewrite")
    board.engine_starts("rewrite", "a", "lost")
    assert board.next_shard("rewrite", 0, actor_id="a", node_id="lost", finished=None) == "00000"
    board.engine_starts("rewrite", "a", "other")
    assert board.next_shard("rewrite", 0, actor_id="a", node_id="other", finished=None) == "00000"
    lost = board.next_shard("rewrite", 0, actor_id="a", node_id="lost", finished="00000")
    assert lost is NoShard.MORE
    assert board.next_shard("rewrite", 0, actor_id="a", node_id="other", finished="00000") == "00001"


def test_a_stage_that_is_done_keeps_its_time_and_its_mean_rate(board: ProgressBoard, clock: Clock) -> None:
    clock.now_s += 20
    board.engine_samples("rewrite", "a", 0, 16)
    for _ in range(4):
        clock.now_s += 5
        board.engine_samples("rewrite", "a", 1000, 16)
        board.add("rewrite", done=4, num_tokens=1000)
    for _ in range(3):
        assert line(board) == "rewrite    16/16  200 tokens/s  40 s"
        clock.now_s += 100


def test_a_stage_without_engines_has_a_time_left_from_its_second_report_on(clock: Clock) -> None:
    """When the first report's work began is not known; an earlier start's work says nothing either."""
    board = ProgressBoard(clock=clock)
    board.begin("gap", total=1000, done_before=500)
    clock.now_s += 90
    board.add("gap", done=100)
    assert line(board) == "gap        600/1,000"
    clock.now_s += 10
    board.add("gap", done=100)
    assert line(board) == "gap        700/1,000  0:30 left"


def test_a_training_shows_its_own_rate(clock: Clock) -> None:
    board = ProgressBoard(clock=clock)
    board.update("train", done=1, total=11, note="sft seed 0", tokens_per_s=123.0, loss=0.5)
    clock.now_s += 10
    board.update("train", done=2, total=11, note="sft seed 0", tokens_per_s=456.0, loss=0.25)
    assert line(board) == "train      2/11  456 tokens/s  loss 0.25  1:30 left  sft seed 0"


def test_a_training_that_knows_its_time_left_is_believed_and_it_passes(clock: Clock) -> None:
    board = ProgressBoard(clock=clock)
    board.update("train", done=1, total=11, left_s=100.0)
    clock.now_s += 30
    assert line(board) == "train      1/11  1:10 left"


def test_a_total_that_is_not_known_yet_is_said_and_gives_no_time_left(clock: Clock) -> None:
    board = ProgressBoard(clock=clock)
    board.begin("rewrite", is_growing=True)
    board.engine_is("rewrite", "a", EnginePhase.SAMPLING)
    board.add_shards("rewrite", ["00001"], num_problems=8, num_done=4)
    board.engine_samples("rewrite", "a", 0, 4)
    clock.now_s += 2
    board.engine_samples("rewrite", "a", 480, 4)
    board.add("rewrite", done=4, num_tokens=480)
    (stage,) = board.snapshot()
    assert not stage.is_done
    assert line(board) == "rewrite    8  8 problems so far, reading  4 in flight  240 tokens/s"
    board.add_shards("rewrite", ["00002"], num_problems=1_000, num_done=0)
    assert line(board).startswith("rewrite    8  1,008 problems so far, reading")
    board.close_shards("rewrite")
    assert line(board) == "rewrite    8/1,008  4 in flight  240 tokens/s  8:20 left"


def test_samples_that_are_done_stand_beside_the_problems(board: ProgressBoard, clock: Clock) -> None:
    for engine in "ab":
        board.engine_is("rewrite", engine, EnginePhase.SAMPLING)
    board.engine_samples("rewrite", "a", 0, 24)
    clock.now_s += 2
    board.engine_samples("rewrite", "a", 480, 20, num_new_samples=1_004)
    board.engine_samples("rewrite", "b", 0, 3, num_new_samples=1)
    assert line(board) == "rewrite    0/16  1,005 samples  23 in flight  240 tokens/s"


def test_no_time_left_stands_where_less_than_a_second_would(board: ProgressBoard, clock: Clock) -> None:
    """While something is left to do "0:00 left" is no answer."""
    board.engine_is("rewrite", "a", EnginePhase.SAMPLING)
    board.engine_samples("rewrite", "a", 0, 8)
    clock.now_s += 10
    board.engine_samples("rewrite", "a", 1_590, 8)
    board.add("rewrite", done=15, num_tokens=1_500)
    (stage,) = board.snapshot()
    assert stage.remaining_s == pytest.approx(10 / 159)
    assert line(board) == "rewrite    15/16  8 in flight  159 tokens/s"


def test_a_log_has_a_line_for_each_change_and_one_a_minute(board: ProgressBoard, clock: Clock) -> None:
    out = io.StringIO()
    printer = LinePrinter(Console(file=out, width=200), clock=clock)

    def pass_time(seconds: int) -> None:
        for _ in range(seconds):
            clock.now_s += 1
            printer(board.snapshot())

    printer(board.snapshot())
    pass_time(30)
    board.engine_is("rewrite", "a", EnginePhase.READING)
    pass_time(150)
    board.engine_samples("rewrite", "a", 10, 4)
    pass_time(5)
    board.add("rewrite", done=16, num_tokens=10)
    pass_time(500)
    found = [re.sub(r"\s+", " ", one) for one in out.getvalue().splitlines()]
    assert found[:4] == ["rewrite 0/16 starting", *["rewrite 0/16 reading weights"] * 3]
    assert len(found) == 6
    assert found[-1].startswith("rewrite 16/16")


def test_a_message_of_a_stage_that_no_driver_began_is_no_error(clock: Clock) -> None:
    board = ProgressBoard(clock=clock)
    board.engine_ends("rewrite", "a")
    board.add("rewrite", done=1)
    assert board.snapshot() == [StageProgress(stage="rewrite", done=1)]
