"""Runs the service on this machine, for `drsft serve`."""

import logging
import os
import sys
import threading
import time
from contextlib import ExitStack, suppress
from typing import TextIO

from ray import serve as ray_serve
from ray.exceptions import RayError
from rich.console import Console

from drsft.errors import ConfigError, SetupError
from drsft.policy.prompts import target_prompter
from drsft.policy.vllm.options import check_options
from drsft.process.death_notice import notice_if_killed
from drsft.process.end_requests import END_REQUESTS, SIGNALS
from drsft.rewrite.hinted import hinted_prompter
from drsft.stages.cluster import check_port_is_free, connected, is_own_machine, quiet_stderr
from serve.app import build_app
from serve.http.loopback import is_loopback
from serve.settings import ServeConfig

__all__ = ["serve_here"]

# Every process of Serve reads it when it starts; the image sets the same.
_ENVIRONMENT = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve.ray.proxy:middlewares",
    # Serve kills a proxy that is not up after 5 s, as on a loaded machine, and then its own start fails.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",  # between proxy and replicas: 2 ms a request less than actor calls
}


def serve_here(config: ServeConfig, *, host: str, port: int) -> None:
    """Serves on this machine until SIGINT, SIGTERM or SIGHUP, then lets the requests in flight finish.

    Raises UserError if the configuration, the model or the port cannot be used, or the service cannot start.
    """
    if config.access.open_on_loopback and not (host == "localhost" or is_loopback(host)):
        raise ConfigError(
            f"--host {host}: without keys the service listens on loopback only; set access.keys_file "
            "(drsft serve-key NAME makes a key)"
        )
    check_port_is_free(port, "--port")
    if config.access.keys_file is not None and not config.access.keys_path.is_file():
        raise ConfigError(
            f"access.keys_file {config.access.keys_file!r}: no such file; make it: "
            "drsft serve-key NAME >> FILE"
        )
    prompter = target_prompter(config.target)  # every replica will do this: report a rejected template early
    if config.rewrite.is_hinted:
        hinted_prompter(config.rewrite.hinted, prompter)
    check_options(config.target, is_own_machine=is_own_machine())
    os.environ.update({key: os.environ.get(key, value) for key, value in _ENVIRONMENT.items()})
    stdout = sys.stdout
    with END_REQUESTS.installed(), notice_if_killed(), ExitStack() as ending, connected():
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        try:
            ray_serve.start(http_options={"host": host, "port": port, "request_timeout_s": None})
            ray_serve.run(build_app(config), name="drsft", route_prefix="/")
        except (RuntimeError, RayError) as error:
            reason = str(error).strip().splitlines()[-1][:300]
            raise SetupError(f"the service did not start: {reason}") from error
        with suppress(KeyboardInterrupt):  # a second signal: do not wait for the other requests
            _serve_until_asked(config.drain_s, f"http://{host}:{port}", stdout)
        # Ray's driver prints every call to an actor that Serve ends as a failure with "infinite retries".
        ending.enter_context(quiet_stderr(Console(stderr=True)))
        ray_serve.shutdown()


def _serve_until_asked(drain_s: float, address: str, stdout: TextIO) -> None:
    """Prints the address; returns after a signal to end, when the requests in flight have ended.

    A second signal raises KeyboardInterrupt.
    """
    asked = threading.Event()
    with END_REQUESTS.draining(asked.set, by=SIGNALS):
        print(address, file=stdout, flush=True)
        while not asked.wait(3600):
            pass
        _finish_requests(drain_s)


def _finish_requests(drain_s: float) -> None:
    """Drains: lets the requests in flight end and rejects others.

    Serve itself would cut them off with its proxy.
    """
    ingress = ray_serve.get_app_handle("drsft")
    until_s = time.monotonic() + drain_s
    while sum(ingress.broadcast("close").results()) and time.monotonic() < until_s:
        time.sleep(0.2)
