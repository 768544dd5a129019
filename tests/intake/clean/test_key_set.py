"""The compact set against Python's own."""

from drsft.intake.clean.key_set import KeySet
from drsft.records import stable_seed


def test_it_answers_as_a_set_does_while_it_grows() -> None:
    keys, oracle = KeySet(), set()
    for number in range(30_000):
        key = stable_seed(number * 7919 % 20_011, "key")  # a prime: every third comes again
        assert (key in keys) == (key in oracle)
        assert keys.add(key) == (key not in oracle)
        oracle.add(key)
    assert len(keys) == len(oracle)
    assert stable_seed(20_011, "key") not in keys


def test_a_key_of_zero_is_kept_and_crowded_slots_are_told_apart() -> None:
    keys = KeySet()
    crowded = [0, *(number << 32 | 5 for number in range(1, 100)), (1 << 64) - 1]
    assert [keys.add(key) for key in crowded] == [True] * len(crowded)
    assert all(key in keys for key in crowded)
    assert not keys.add(0)


def test_it_takes_at_most_32_bytes_a_key() -> None:
    keys = KeySet()
    for number in range(50_000):
        keys.add(stable_seed(number, "key"))
    assert len(keys._slots) * keys._slots.itemsize <= 32 * len(keys)
