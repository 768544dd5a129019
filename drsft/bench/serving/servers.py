"""Runs servers as child processes for the benches: drsft's service, vLLM's own server, and a bare engine."""

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import httpx
import psutil

from drsft.config import Target
from drsft.errors import StageError
from drsft.policy.prompts import model_location

__all__ = ["BareEngine", "bare_engine", "free_port", "our_service", "vllm_server"]

START_S = 180.0


def free_port() -> int:
    """Returns a free port that neither Ray's workers nor the system's own port assignment use."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def our_service(config: Path, folder: Path, *overrides: str) -> Iterator[tuple[str, psutil.Process]]:
    """Runs `drsft serve` until the block ends; yields its URL and its root process."""
    command = [sys.executable, "-m", "drsft.cli", "serve", str(config), *overrides]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    with (folder / "service.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--port", str(free_port())],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
    try:
        url = _line(process.stdout).strip()
        if not url.startswith("http"):
            raise StageError(f"the service did not start; its log is {folder / 'service.log'}")
        yield url, psutil.Process(process.pid)
    finally:
        _end(process)


@contextmanager
def vllm_server(target: Target, folder: Path) -> Iterator[str]:
    """Runs vLLM's OpenAI-compatible server with the same model and settings; yields its URL."""
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", model_location(target.model), "--served-model-name", "target"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", target.dtype, "--seed", "0"]
    command += ["--max-model-len", str(target.max_model_len), "--no-enable-chunked-prefill"]
    command += ["--max-num-seqs", str(target.engine.max_num_seqs), "--max-num-batched-tokens", "4096"]
    command += ["--enforce-eager"] if target.engine.enforce_eager else []
    if target.engine.kv_cache_mib is not None:
        command += ["--kv-cache-memory-bytes", str(target.engine.kv_cache_mib << 20)]
    environment = {
        **os.environ,
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "TORCHDYNAMO_DISABLE": "1",
    }
    with (folder / "vllm.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/health", process, folder / "vllm.log")
        yield url
    finally:
        _end(process)


class BareEngine:
    """vLLM's AsyncLLM in a process of its own, without a server.

    `ask(index)` runs the request with this index; it returns the number of sampled tokens, and the seconds as
    measured in that process.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, index: int) -> tuple[int, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{index}\n")
        self._process.stdin.flush()
        answer = json.loads(_line(self._process.stdout))
        return int(answer["num_tokens"]), float(answer["seconds"])


@contextmanager
def bare_engine(work: dict[str, Any], folder: Path) -> Iterator[BareEngine]:
    path = folder / "work.json"
    path.write_text(json.dumps(work))
    with (folder / "engine.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "drsft.bench.serving.peer_vllm_async", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        if not json.loads(_line(process.stdout) or "{}").get("ready"):
            raise StageError(f"the bare engine did not start; its log is {folder / 'engine.log'}")
        yield BareEngine(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()  # the end of its work: it shuts the engine's own processes down
        _wait(process)


def _line(stream: IO[str] | None) -> str:
    """Returns the next line of JSON or an address, and skips lines that libraries print."""
    assert stream is not None
    for line in stream:
        if line.startswith(("{", "http")):
            return line
    return ""


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    give_up_s = time.monotonic() + START_S
    while time.monotonic() < give_up_s and process.poll() is None:
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise StageError(f"vLLM's server did not start; its log is {log}")


def _end(process: "subprocess.Popen[Any]") -> None:
    process.terminate()
    _wait(process)


def _wait(process: "subprocess.Popen[Any]") -> None:
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
