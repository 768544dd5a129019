"""The compact set against Python's own."""

from drsft.intake.clean.string_set import Seen


def test_it_answers_as_a_set_does_while_it_grows() -> None:
    seen, oracle = Seen(), set()
    for number in range(30_000):
        text = f"problem {number * 7919 % 20_011}"  # a prime: every third comes again
        assert (text in seen) == (text in oracle)
        assert seen.add(text) == (text not in oracle)
        oracle.add(text)
    assert len(seen) == len(oracle) == 20_011
    assert "problem 20011" not in seen


def test_it_takes_at_most_32_bytes_a_string() -> None:
    seen = Seen()
    for number in range(50_000):
        seen.add(str(number))
    assert len(seen._slots) * seen._slots.itemsize <= 32 * len(seen)
