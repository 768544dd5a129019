"""Slots that draw from a queue do every shard, whatever dies meanwhile and however late shards come."""

import random

import pytest

from drsft.stages.shard_queue import NoShard, ShardQueue


@pytest.mark.parametrize("seed", range(40))
def test_every_shard_is_finished_although_slots_are_cut_off_and_shards_come_late(seed: int) -> None:
    draw = random.Random(seed)
    queue, coming = ShardQueue(), [f"{number:05d}" for number in range(draw.randrange(30))]
    wanted = list(coming)
    holds: dict[int, str | None] = dict.fromkeys(range(draw.randrange(1, 8)))
    ended: set[int] = set()
    finished: list[str] = []
    while len(ended) < len(holds):
        match draw.randrange(4):
            case 0 if coming:
                num = draw.randrange(1, 4)
                queue.add(coming[:num])
                del coming[:num]
            case 0 if not queue.is_closed:
                queue.close()
            case 1:  # an actor dies: what the slot held is given to it again
                slot = draw.choice(list(holds))
                before, holds[slot] = holds[slot], None
                if before is not None:
                    holds[slot] = str(queue.draw(slot, finished=None))
                    assert holds[slot] == before
            case _:
                slot = draw.choice(list(holds))
                shard = holds[slot]
                drawn = queue.draw(slot, finished=shard)
                if shard is not None:
                    finished.append(shard)
                holds[slot] = drawn if isinstance(drawn, str) else None
                if drawn is NoShard.MORE:
                    ended.add(slot)
    assert sorted(finished) == wanted


def test_a_queue_without_shards_says_whether_to_ask_again() -> None:
    queue = ShardQueue()
    assert not queue.is_asked
    assert queue.draw(0, finished=None) is NoShard.YET
    assert queue.is_asked
    queue.add(["a"])
    assert queue.draw(0, finished=None) == "a"
    assert queue.draw(1, finished=None) is NoShard.YET
    queue.close()
    assert queue.draw(1, finished=None) is NoShard.MORE
    assert queue.draw(0, finished="a") is NoShard.MORE


def test_what_waits_is_not_begun_once_it_is_dropped() -> None:
    queue = ShardQueue()
    queue.add(["a", "b", "c"])
    assert queue.draw(0, finished=None) == "a"
    queue.close(drop=True)
    assert queue.draw(1, finished=None) is NoShard.MORE
    assert queue.draw(0, finished=None) == "a", "a slot that was cut off may end what it began"
    assert queue.draw(0, finished="a") is NoShard.MORE
