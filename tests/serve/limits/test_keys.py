"""Keys and admission, on a clock that the test turns."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drsft.config import Rewrite
from drsft.errors import ConfigError
from serve.limits.admission import Admission, Rejected, estimated_tokens
from serve.limits.keys import Key, KeyRing, make_key, read_keys
from serve.limits.rates import TokenBucket
from serve.settings import Access


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def key(requests: int = 60, tokens: int = 6000) -> Key:
    return Key(name="team", digest=b"", requests_per_minute=requests, tokens_per_minute=tokens)


def ring(tmp_path: Path, *lines: str, clock: Clock | None = None) -> KeyRing:
    path = tmp_path / "keys"
    path.write_text("# comment\n\n" + "\n".join(lines) + "\n")
    return KeyRing(path, Access(keys_file=str(path)), clock_s=clock or Clock())


def test_a_made_key_opens_and_no_other_does(tmp_path: Path) -> None:
    secret, line = make_key("annotators")
    other, _ = make_key("annotators")
    keys = ring(tmp_path, line)
    found = keys.find(secret)
    assert found is not None
    assert found.name == "annotators"
    assert keys.find(other) is None
    assert keys.find("") is None
    assert secret not in line


def test_the_secret_stands_nowhere_in_the_file_and_limits_can(tmp_path: Path) -> None:
    secret, line = make_key("slow")
    keys = ring(tmp_path, f"{line} requests_per_minute=3")
    found = keys.find(secret)
    assert found is not None
    assert (found.requests_per_minute, found.tokens_per_minute) == (3, 1_000_000)


def test_keys_change_without_a_restart_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    clock = Clock()
    (old, old_line), (new, new_line) = make_key("old"), make_key("new")
    keys = ring(tmp_path, old_line, clock=clock)
    (tmp_path / "keys").write_text(new_line)
    assert keys.find(old) is not None  # looked at once a second
    clock.now_s = 2
    assert keys.find(new) is not None
    assert keys.find(old) is None
    (tmp_path / "keys").write_text("half a line")
    clock.now_s = 4
    assert keys.find(new) is not None
    (tmp_path / "keys").unlink()
    clock.now_s = 6
    assert keys.find(new) is not None


GOOD = "x sha256:" + "0" * 64


@pytest.mark.parametrize(
    "line",
    [
        "name secret",
        "a b c",
        "x sha256:12",
        f"{GOOD} speed=1",
        "",
        *(f"{GOOD} requests_per_minute={n}" for n in ("0", "00", "01", "-1", "1e3", "٣", "9" * 5000)),
    ],
    ids=lambda line: line[-40:],
)
def test_a_malformed_file_is_one_line_that_keeps_its_content_to_itself(tmp_path: Path, line: str) -> None:
    path = tmp_path / "keys"
    path.write_text(line)
    with pytest.raises(ConfigError) as caught:
        read_keys(path, Access(keys_file=str(path)))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_access_needs_keys_or_an_explicit_word() -> None:
    with pytest.raises(ValueError, match="set keys_file, or open_on_loopback"):
        Access()
    with pytest.raises(ValueError, match="keys_file needs open_on_loopback: false"):
        Access(keys_file="keys", open_on_loopback=True)


@given(amounts=st.lists(st.integers(1, 50), min_size=1, max_size=60), gap_s=st.floats(0.01, 3))
def test_a_bucket_never_gives_more_than_its_rate_and_one_minute_ahead(
    amounts: list[int], gap_s: float
) -> None:
    bucket, taken = TokenBucket(60, 60, 0.0), 0
    for i, amount in enumerate(amounts):
        if bucket.take(amount, i * gap_s) == 0:
            taken += amount
    assert taken <= 60 + 60 * (len(amounts) * gap_s) / 60 + 1e-6


def test_waiting_as_long_as_told_is_enough() -> None:
    bucket = TokenBucket(60, 60, 0.0)
    assert bucket.take(60, 0.0) == 0
    wait_s = bucket.take(10, 0.0)
    assert wait_s > 0
    assert bucket.take(10, wait_s + 1e-9) == 0


def test_full_is_refused_at_once_and_room_comes_back() -> None:
    admission = Admission(100, clock_s=Clock())
    with admission.admit(key(), 80):
        with pytest.raises(Rejected), admission.admit(key(), 30):
            pass
        with admission.admit(key(), 20):
            assert admission.in_flight == 100
    assert admission.in_flight == 0
    with admission.admit(key(), 500):  # larger than everything: alone it may
        pass


def test_a_failed_request_frees_its_room() -> None:
    admission = Admission(100, clock_s=Clock())
    with pytest.raises(RuntimeError), admission.admit(key(), 80):
        raise RuntimeError
    assert admission.in_flight == 0


def test_a_key_past_its_rate_is_told_when_to_come_again_and_others_are_not() -> None:
    clock = Clock()
    admission = Admission(10_000, clock_s=clock)
    for _ in range(60):
        with admission.counted(key()):
            pass
    with pytest.raises(Rejected, match="60 requests a minute") as caught, admission.counted(key()):
        pass
    clock.now_s += caught.value.retry_after_s
    with admission.counted(key()):
        pass


def test_a_request_that_is_refused_is_not_counted() -> None:
    admission = Admission(100, clock_s=Clock())
    for _ in range(100):
        with pytest.raises(Rejected, match="full"), admission.counted(key()):
            raise Rejected("the service is full", 1, is_full=True)
    with admission.counted(key()):
        pass


def test_the_first_request_of_a_key_is_let_in_on_a_clock_that_runs() -> None:
    ticks = iter(range(1_000_000))
    admission = Admission(100, clock_s=lambda: next(ticks) * 1e-3)
    slow = key(requests=1, tokens=10)
    with admission.counted(slow), admission.admit(slow, 10):
        pass


def test_what_was_not_used_is_given_back_to_the_key() -> None:
    admission = Admission(100_000, clock_s=Clock())
    for _ in range(10):
        with admission.admit(key(tokens=6000), 5000) as ticket:
            ticket.used = 100
    with pytest.raises(Rejected, match="tokens a minute"), admission.admit(key(tokens=6000), 5100):
        pass


@given(
    old_tokens=st.integers(200, 10**6),
    new_tokens=st.integers(10, 200),
    number=st.integers(1, 20),
)
def test_a_limit_that_is_lowered_is_no_way_to_many_minutes_worth(
    old_tokens: int, new_tokens: int, number: int
) -> None:
    """Whatever the requests that began before give back: together it is one minute's worth at most."""
    admission = Admission(10**9, clock_s=Clock())
    with ExitStack() as under_way:
        began = [ExitStack() for _ in range(number)]
        for one in began:
            ticket = one.enter_context(admission.admit(key(tokens=old_tokens), old_tokens // number))
            ticket.used = 0
            under_way.push(one)
        slow = key(tokens=new_tokens)
        at_once = _all_that_it_gives(admission, slow)
        for one in began:
            one.close()
            at_once += _all_that_it_gives(admission, slow)
        assert at_once <= 2 * new_tokens


def _all_that_it_gives(admission: Admission, slow: Key) -> int:
    """Token by token, at one moment."""
    for taken in range(10**6):
        try:
            with admission.admit(slow, 1):
                pass
        except Rejected:
            return taken
    raise AssertionError("without end")


def test_a_limit_that_is_raised_holds_at_once() -> None:
    clock = Clock()
    admission = Admission(10**9, clock_s=clock)
    assert _all_that_it_gives(admission, key(tokens=10)) == 10
    clock.now_s = 6
    assert _all_that_it_gives(admission, key(tokens=1000)) == 1
    clock.now_s = 12
    assert _all_that_it_gives(admission, key(tokens=1000)) == 100


def test_the_estimate_is_the_prompt_and_the_largest_wave() -> None:
    rewrite = Rewrite.model_validate(
        {
            "self_align": {"num_samples": 3, "wave_size": 8, "max_tokens": 10},
            "guided": {"num_samples": 8, "wave_size": 2, "max_tokens": 20},
        }
    )
    assert estimated_tokens(7, rewrite) == 7 + 40
