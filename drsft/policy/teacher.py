"""Asks teachers, which are models behind OpenAI-compatible endpoints, for solutions.

Of several teachers, one is drawn for each problem by weight. Failures are of two kinds. A rejected key, an
unknown model and an endpoint that does not answer end the run: the user fixes them and resumes with the same
command. A single request that fails even after retries with growing pauses is recorded with its problem,
which continues without a teacher.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from drsft.config import Teacher
from drsft.errors import SetupError
from drsft.records import FinishReason, Problem, stable_seed

__all__ = ["OpenAITeachers", "TeacherText", "Teachers"]


FAILURES_IN_A_ROW = 8  # failures in a row after which a teacher counts as lost


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherText:
    """One solution as a teacher wrote it. If there is none, `text` is empty and `failure` is the reason."""

    text: str
    finish_reason: FinishReason  # as the endpoint says
    seed: int
    failure: str | None = None


class Teachers(Protocol):
    def pick(self, problem: Problem, run_seed: int) -> Teacher:
        """Returns the teacher that solves this problem, drawn by weight; the draw depends on `run_seed` and
        the problem's id alone.
        """
        ...

    async def solve(
        self, teacher: Teacher, messages: list[dict[str, str]], *, seed: int
    ) -> list[TeacherText]:
        """Asks for `teacher.num_samples` solutions, with the seeds `seed`, `seed` + 1, …; returns a text or a
        failure for each.

        Raises SetupError for a failure that every other request would have too.
        """
        ...


class OpenAITeachers:
    """Asks teachers over HTTP, with bounded retries and at most `max_in_flight` requests at once.

    Raises SetupError when the environment variable of an API key is not set.
    """

    def __init__(self, teachers: Sequence[Teacher], *, max_in_flight: int = 64) -> None:
        from openai import AsyncOpenAI

        self._teachers = tuple(teachers)
        self._clients: dict[Teacher, Any] = {
            teacher: AsyncOpenAI(
                base_url=teacher.base_url,
                api_key=_key(teacher),
                timeout=teacher.timeout_s,
                max_retries=teacher.max_retries,  # of 408, 409, 429, 5xx and lost connections
            )
            for teacher in self._teachers
        }
        self._slots = asyncio.Semaphore(max_in_flight)
        self._num_failed: Counter[Teacher] = Counter()  # in a row
        self._has_answered: set[Teacher] = set()

    def pick(self, problem: Problem, run_seed: int) -> Teacher:
        draw = random.Random(stable_seed(run_seed, problem.problem_id, "teacher"))
        return draw.choices(self._teachers, [teacher.weight for teacher in self._teachers])[0]

    async def solve(
        self, teacher: Teacher, messages: list[dict[str, str]], *, seed: int
    ) -> list[TeacherText]:
        return list(
            await asyncio.gather(
                *(self._one(teacher, messages, seed + i) for i in range(teacher.num_samples))
            )
        )

    async def _one(self, teacher: Teacher, messages: list[dict[str, str]], seed: int) -> TeacherText:
        from openai import OpenAIError

        try:
            async with self._slots:
                answer = await self._clients[teacher].chat.completions.create(
                    model=teacher.model,
                    messages=messages,
                    temperature=teacher.temperature,
                    max_tokens=teacher.max_tokens,
                    seed=seed,
                )
            text, finish_reason = _solution_of(answer)
        except (OpenAIError, ValueError) as error:  # the latter also for a body that is not JSON
            failure = self._failed(teacher, error)
            return TeacherText(text="", finish_reason=FinishReason.ERROR, seed=seed, failure=failure)
        self._has_answered.add(teacher)
        self._num_failed[teacher] = 0
        return TeacherText(text=text, finish_reason=finish_reason, seed=seed)

    def _failed(self, teacher: Teacher, error: Exception) -> str:
        """Returns why there is no solution. Raises SetupError if no later request would get one either."""
        status = getattr(error, "status_code", None)
        where = f"rewrite.teachers: {teacher.model!r} at {teacher.base_url}"
        if status in (401, 403):
            cure = f"check {teacher.api_key_env}" if teacher.api_key_env else "set api_key_env"
            raise SetupError(f"{where} rejects the API key ({status}); {cure}") from error
        if status == 404:
            raise SetupError(f"{where} was not found (404); check model and base_url") from error
        failure = _failure(error)
        is_of_request = status is not None and status < 500 and status != 429  # other requests may succeed
        has_answered = teacher in self._has_answered
        if is_of_request and has_answered:
            return failure  # such as a problem that is too long for the teacher: others are not
        self._num_failed[teacher] += 1
        may_pass = has_answered or is_of_request or isinstance(error, ValueError)
        if self._num_failed[teacher] >= (FAILURES_IN_A_ROW if may_pass else 1):
            raise SetupError(
                f"{where} gives no solutions: {failure}, {_detail(error)}; once the endpoint works again, "
                "run the same command to resume"
            ) from error
        return failure


class _UnreadableError(ValueError):
    """A response of status 200 has no solution: some routers return another endpoint's failure this way."""


def _solution_of(answer: Any) -> tuple[str, FinishReason]:
    """Returns text and finish reason of the first choice; some endpoints send the text in parts.

    The response is unchecked input. Raises _UnreadableError for any other response.
    """
    try:
        choice = answer.choices[0]
        content, finish_reason = choice.message.content or "", choice.finish_reason
        text = content if isinstance(content, str) else "".join(part["text"] for part in content)
    except (AttributeError, IndexError, KeyError, TypeError):
        said = getattr(answer, "error", None) or answer
        raise _UnreadableError(f"no solution in its answer: {said}") from None
    text = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no text
    return text, FinishReason(finish_reason) if isinstance(finish_reason, str) else FinishReason.ERROR


def _failure(error: Exception) -> str:
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    match error:
        case APITimeoutError():
            return "the teacher timed out"
        case APIConnectionError():
            return "no connection to the teacher"
        case APIStatusError():
            return f"the teacher answered with status {error.status_code}"
        case _:
            return "the teacher's answer cannot be read"


def _detail(error: Exception) -> str:
    return " ".join(str(error.__cause__ or error).split())[:200]


def _key(teacher: Teacher) -> str:
    if teacher.api_key_env is None:
        return "none"  # the client requires a key; servers without keys ignore it
    key = os.environ.get(teacher.api_key_env)
    if not key:
        raise SetupError(
            f"rewrite.teachers: environment variable {teacher.api_key_env} is not set; set it to the API "
            f"key of {teacher.base_url}"
        )
    return key
