"""Serves the report of a running run on loopback, refreshed as results are committed."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from drsft.config import RunConfig
from drsft.errors import ConfigError, DrsftError
from drsft.report.collect import collect
from drsft.report.html.page import render, render_waiting
from drsft.run import layout
from drsft.run.run import run_of

__all__ = ["LiveReport", "served"]

NUM_ROWS = 200  # the finished report carries more
POLL_S = 5.0  # an open page polls at least this often


class LiveReport:
    """Renders the report of a running run, and renders it again once the run's folder has a new object.

    Threads may share it.
    """

    def __init__(self, config: RunConfig) -> None:
        self._run = run_of(config)
        self._lock = threading.Lock()
        self._page = ("", b"")
        self._polled_s = -POLL_S  # the last poll, on the monotonic clock
        self._shown = ""  # the version that the last reader has
        self._news = threading.Condition()  # of _shown
        self._progress: Sequence[str] = ()

    def show_progress(self, lines: Sequence[str]) -> None:
        """Sets the lines about the current stages that an open page shows."""
        self._progress = lines

    def progress(self) -> bytes:
        return "\n".join(self._progress).encode()

    def version(self) -> str:
        """Returns a hash that changes with every object that the run gains.

        It also notes that an open page has polled, and that the last rendered page was received.
        """
        version = self._stored_version()
        self._polled_s = time.monotonic()
        self._note_shown(self._page[0])
        return version

    def page(self) -> bytes:
        with self._lock:
            version = self._stored_version()
            self._polled_s = time.monotonic()
            if self._page[0] != version:
                self._page = (version, self._render())
            self._note_shown(version)
            return self._page[1]

    def wait_for_page(self) -> None:
        """Waits until an open page shows the newest state, at most POLL_S seconds.

        Returns at once if no page has polled in the last POLL_S seconds.
        """
        if time.monotonic() - self._polled_s < POLL_S:
            version = self._stored_version()
            with self._news:
                self._news.wait_for(lambda: self._shown == version, timeout=POLL_S)

    def _stored_version(self) -> str:
        """Returns a hash over the keys of all objects of the run, except the report's."""
        keys = "\n".join(key for key in self._run.store.keys("") if not layout.REPORT.holds(key))
        return hashlib.blake2b(keys.encode(), digest_size=8).hexdigest()

    def _note_shown(self, version: str) -> None:
        with self._news:
            self._shown = version
            self._news.notify_all()

    def _render(self) -> bytes:
        if self._run.plan() is None or not self._run.is_started:
            return render_waiting(self._run.config.name).encode()
        return render(collect(self._run, max_rows=NUM_ROWS), is_live=True).encode()


@contextmanager
def served(report: LiveReport, *, port: int) -> Iterator[str]:
    """Serves the live report while the block runs and yields its URL; port 0 takes any free port.

    If a page is open when the block ends, the server waits up to POLL_S seconds until it shows the finished
    run. Raises ConfigError if the port cannot be used.
    """
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, report))
    except OSError as error:
        raise ConfigError(
            f"--port {port} cannot be used: {error.strerror}; give another port, or 0 for any free one"
        ) from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="live report", daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        report.show_progress(())
        report.wait_for_page()
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, report: LiveReport, *arguments: object) -> None:
        self._report = report
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        # A web page whose host name points at this machine must not read the run.
        host = self.headers.get("Host", "").partition(":")[0]
        if host not in ("127.0.0.1", "localhost"):
            self.send_error(403, "the host of the URL must be 127.0.0.1 or localhost")
        elif self.path == "/":
            self._answer("text/html; charset=utf-8", self._report.page)
        elif self.path == "/version":
            self._answer("text/plain", lambda: self._report.version().encode())
        elif self.path == "/progress":
            self._answer("text/plain; charset=utf-8", self._report.progress)
        else:
            self.send_error(404)

    def _answer(self, kind: str, make: Callable[[], bytes]) -> None:
        try:
            body = make()
        except DrsftError as error:
            self.send_error(503, str(error))
            return
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Logs nothing, since the run draws its own progress."""
