"""Teachers behind OpenAI-compatible endpoints, several of them with weights."""

import asyncio
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from drsft.config import Teacher
from drsft.errors import SetupError
from drsft.records import Problem, stable_seed

__all__ = ["OpenAITeachers", "TeacherText", "Teachers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherText:
    """One solution as a teacher wrote it."""

    text: str
    is_truncated: bool
    seed: int


class Teachers(Protocol):
    def pick(self, problem: Problem, run_seed: int) -> Teacher:
        """The teacher that is asked about this problem: by weight, seeded by the problem."""
        ...

    async def solve(
        self, teacher: Teacher, messages: list[dict[str, str]], *, seed: int
    ) -> list[TeacherText]:
        """`teacher.num_samples` solutions; none when the endpoint keeps failing."""
        ...


class OpenAITeachers:
    """Teachers over HTTP, with bounded retries and at most `max_in_flight` requests at once.

    Raises SetupError when a key's environment variable is not set.
    """

    def __init__(self, teachers: Sequence[Teacher], *, max_in_flight: int = 64) -> None:
        from openai import AsyncOpenAI

        self._teachers = tuple(teachers)
        self._clients: dict[Teacher, Any] = {
            teacher: AsyncOpenAI(
                base_url=teacher.base_url, api_key=_key(teacher), timeout=teacher.timeout_s, max_retries=5
            )
            for teacher in self._teachers
        }
        self._slots = asyncio.Semaphore(max_in_flight)

    def pick(self, problem: Problem, run_seed: int) -> Teacher:
        draw = random.Random(stable_seed(run_seed, problem.problem_id, "teacher"))
        return draw.choices(self._teachers, [teacher.weight for teacher in self._teachers])[0]

    async def solve(
        self, teacher: Teacher, messages: list[dict[str, str]], *, seed: int
    ) -> list[TeacherText]:
        from openai import OpenAIError

        async def one(sample_seed: int) -> TeacherText | None:
            try:
                async with self._slots:
                    answer = await self._clients[teacher].chat.completions.create(
                        model=teacher.model,
                        messages=messages,
                        temperature=teacher.temperature,
                        max_tokens=teacher.max_tokens,
                        seed=sample_seed,
                    )
            except OpenAIError:
                return None  # the problem goes on without its teacher; the record shows no such attempt
            choice = answer.choices[0]
            is_truncated = choice.finish_reason != "stop"
            return TeacherText(text=choice.message.content or "", is_truncated=is_truncated, seed=sample_seed)

        texts = await asyncio.gather(*(one(seed + i) for i in range(teacher.num_samples)))
        return [text for text in texts if text is not None]


def _key(teacher: Teacher) -> str:
    if teacher.api_key_env is None:
        return "none"  # the client wants one; servers without keys ignore it
    key = os.environ.get(teacher.api_key_env)
    if not key:
        raise SetupError(f"rewrite.teachers: environment variable {teacher.api_key_env} is not set")
    return key
