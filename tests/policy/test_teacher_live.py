"""The cascade's teacher as a real one: vLLM's own OpenAI-compatible server, with a key, on this machine."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from drsft.config import Problems, Rewrite, Teacher
from drsft.config.configfile import load_config
from drsft.errors import SetupError
from drsft.intake.problems import Intake, read_problems
from drsft.policy.prompts import load_prompter, model_location
from drsft.policy.teacher import OpenAITeachers
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.records import Outcome, Problem, Record, Source
from drsft.rewrite.cascade import Recipe, rewrite_one
from drsft.verify.pool import VerifierPool

pytestmark = pytest.mark.engine

TARGET = load_config(Path(__file__).parents[2] / "jobs/configs/quickstart.yaml").target
SAMPLED = {"num_samples": 4, "wave_size": 4, "max_tokens": 128}
# Unsolved from the start, and with demonstrations that are no guide: so the teacher is asked about all.
REWRITE = {"self_align": {"num_samples": 0}, "guided": SAMPLED}
KEY = "a-key-of-this-test"


@retry(retry=retry_if_exception_type(OSError), stop=stop_after_delay(150), wait=wait_fixed(0.5), reraise=True)
def wait_until_ready(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    assert server.poll() is None, log.read_text()[-3000:]
    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host=127.0.0.1"]
    command += [f"--port={port}", f"--model={model_location('embedded')}", "--served-model-name=big"]
    command += ["--dtype=float32", "--max-model-len=512", "--max-num-seqs=64", "--enforce-eager"]
    command += [f"--kv-cache-memory-bytes={64 << 20}", f"--api-key={KEY}", "--no-enable-chunked-prefill"]
    command += ["--max-num-batched-tokens=4096"]
    settings = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1"}
    with tempfile.TemporaryDirectory(prefix="drsft-") as folder:
        log = Path(folder) / "server.log"
        with log.open("w") as file:
            server = subprocess.Popen(
                command,
                env={**os.environ, **settings, "VLLM_NO_USAGE_STATS": "1"},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        try:
            wait_until_ready(port, server, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=60)


def teacher(url: str, **changes: object) -> Teacher:
    fields = {"model": "big", "base_url": url, "api_key_env": "BIG_KEY", "num_samples": 3, "max_tokens": 128}
    return Teacher.model_validate({**fields, "max_retries": 1, **changes})


def problems() -> list[Problem]:
    held_out = Problems(path="embedded:held_out", limit=16)
    read = read_problems(held_out, Intake(), needs_demonstration=False)
    return [
        Problem(
            problem_id=p.problem_id, question=p.question, demonstration=r"\boxed{-1}", reference=p.reference
        )
        for p in read
    ]


@pytest.fixture(scope="module")
def target() -> Iterator[VLLMPolicy]:
    with VLLMPolicy(TARGET, load_prompter(TARGET.model, TARGET.prompts)) as policy:
        yield policy


def taught(policy: VLLMPolicy, teacher: Teacher) -> list[Record]:
    prompter = load_prompter(TARGET.model, TARGET.prompts)

    async def rewrite() -> list[Record]:
        recipe = Recipe(
            rewrite=Rewrite.model_validate(REWRITE),
            prompter=prompter,
            run_seed=0,
            max_model_len=TARGET.max_model_len,
            teachers=OpenAITeachers([teacher]),
        )
        return await asyncio.gather(*(rewrite_one(one, policy, verifier, recipe) for one in problems()))

    with VerifierPool(num_workers=1) as verifier:
        return asyncio.run(rewrite())


def test_a_live_teachers_verified_solutions_are_kept_as_they_are(
    endpoint: str, target: VLLMPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIG_KEY", KEY)
    records = taught(target, teacher(endpoint, use="direct"))
    assert {record.source for record in records} == {Source.TEACHER, Source.EXPERT}
    assert all({a.rollout.phase for a in record.attempts} == {"teacher"} for record in records)
    for record in records:
        assert len(record.attempts) == 3
        assert all(a.rollout.policy == "big" and a.rollout.completion.text for a in record.attempts)
        kept = record.kept_attempt
        assert (kept is not None) == (record.source is Source.TEACHER)
        assert kept is None or kept.verdict.outcome is Outcome.CORRECT


def test_a_live_teachers_solution_guides_the_target(
    endpoint: str, target: VLLMPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIG_KEY", KEY)
    records = taught(target, teacher(endpoint, use="guide"))
    guided = [one for one in records if any(a.rollout.phase == "teacher_guided" for a in one.attempts)]
    assert guided
    assert all(any(a.is_accepted for a in one.attempts if a.rollout.phase == "teacher") for one in guided)
    kept = [one for one in records if one.source is Source.REWRITTEN]
    assert kept
    assert all(one.behaviour_logprobs_T is not None for one in kept), "the target sampled them itself"


def test_a_live_teacher_that_is_cut_off_is_never_kept(
    endpoint: str, target: VLLMPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIG_KEY", KEY)
    records = taught(target, teacher(endpoint, use="direct", max_tokens=5))
    attempts = [attempt for record in records for attempt in record.attempts]
    assert {attempt.rollout.completion.finish_reason for attempt in attempts} == {"length"}
    assert {attempt.verdict.outcome for attempt in attempts} == {Outcome.TRUNCATED}
    assert {record.source for record in records} == {Source.EXPERT}


@pytest.mark.parametrize(
    ("key", "changes", "said"),
    [("wrong", {}, "check BIG_KEY"), (KEY, {"model": "bigger"}, "check model and base_url")],
)
def test_what_a_live_endpoint_refuses_is_one_line(
    endpoint: str,
    target: VLLMPolicy,
    key: str,
    changes: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BIG_KEY", key)
    with pytest.raises(SetupError, match=said) as caught:
        taught(target, teacher(endpoint, **changes))
    assert "\n" not in str(caught.value)


def test_a_request_that_does_not_fit_a_live_teacher_is_recorded_with_its_problem(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIG_KEY", KEY)
    teachers = OpenAITeachers([one := teacher(endpoint, num_samples=1)])

    async def ask() -> list[str | None]:
        long, short = ([{"role": "user", "content": "cup " * n}] for n in (600, 3))
        return [text.failure for m in (long, short) for text in await teachers.solve(one, m, seed=0)]

    assert asyncio.run(ask()) == ["the teacher answered with status 400", None]
