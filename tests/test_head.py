"""A driver notices that its cluster's head is gone, and does not take a short absence for it."""

import socket
import threading

import pytest

from drsft.errors import StageError
from drsft.stages.head import with_a_head

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "2")


def listen(port: int = 0) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


def address(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


def lose(server: socket.socket, *, says: Exception | None = None) -> None:
    with with_a_head(address(server)) as is_lost:
        server.close()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            assert is_lost.is_set()
            raise says or KeyboardInterrupt from None


def test_a_head_that_is_gone_ends_the_block_with_one_line() -> None:
    with pytest.raises(StageError, match=r"the head of the Ray cluster at 127\.0\.0\.1") as caught:
        lose(listen())
    assert "the same command goes on" in str(caught.value)


def test_what_ray_says_at_that_moment_does_not_hide_it() -> None:
    with pytest.raises(StageError, match="the head of the Ray cluster"):
        lose(listen(), says=RuntimeError("failed to connect to the GCS"))


def test_a_block_that_ends_while_there_is_a_head_ends_as_it_would() -> None:
    with listen() as server:
        with with_a_head(address(server)) as is_lost:
            pass
        assert not is_lost.is_set()
        with pytest.raises(ValueError, match="its own"), with_a_head(address(server)):
            raise ValueError("its own")


def test_a_head_that_comes_back_is_no_lost_one() -> None:
    server = listen()
    port = server.getsockname()[1]
    with with_a_head(address(server)) as is_lost:
        server.close()
        back = listen(port)
        back.settimeout(30)
        for _ in range(3):
            back.accept()[0].close()  # three looks
        assert not is_lost.is_set()
        back.close()
