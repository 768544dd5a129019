"""Shards of a run: the same records whoever rewrites them, in whatever order and company."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from drsft.config import Hinted, Mixing, Problems, Prompts, Rewrite
from drsft.intake.planning import plan_problems
from drsft.policy.fake import FakePolicy, text_completion
from drsft.policy.hinted.protocol import Contexts, PairCounts
from drsft.policy.prompts import Prompter, load_prompter
from drsft.records import Completion, Outcome, Problem, QuarantinedRow, Sampling, Source, Verdict
from drsft.report.wording import dropped_because
from drsft.rewrite.cascade import Recipe
from drsft.rewrite.hinted import HintedSetup
from drsft.rewrite.shard import ShardRewriter
from drsft.run import layout
from drsft.run.layout import PROBLEMS
from drsft.run.plan import Plan, read_shard
from drsft.run.shards import ShardSet
from drsft.run.summary import ShardSummary
from drsft.run.tables import records_from_table
from drsft.storage import LocalStore
from tests.support.virtual_time import run_in_virtual_time

NUM_PROBLEMS, SHARD_SIZE = 90, 8
HINT = "{question}\n{demonstration}"


class LastWordVerifier:
    async def judge(self, problem: Problem, text: str, *, is_truncated: bool = False) -> Verdict:
        is_right = text.split()[-1] == problem.reference
        return Verdict(outcome=Outcome.CORRECT if is_right else Outcome.WRONG, reason="last word")


@pytest.fixture(scope="module")
def prompter() -> Prompter:
    return load_prompter("embedded", Prompts(plain="{question}", guided="{question}\n{demonstration}"))


@pytest.fixture(scope="module")
def planned(prompter: Prompter, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan]:
    """A run's folder with planned problems."""
    folder = tmp_path_factory.mktemp("planned")
    rows = [
        {"problem": f"How many? ({n})", "solution": f"They are {n % 7}", "answer": str(n % 7)}
        for n in range(NUM_PROBLEMS)
    ]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    problems = Problems(path=str(folder / "problems.jsonl"), shard_size=SHARD_SIZE)
    plan = plan_problems(problems, LocalStore(folder), PROBLEMS, prompter=prompter, max_model_len=256)
    return folder, plan


def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
    return text_completion(f"I think {random.Random(seed).randrange(25)}")


def recipe(prompter: Prompter) -> Recipe:
    stage = {"num_samples": 4, "wave_size": 2, "max_tokens": 64}
    rewrite = Rewrite.model_validate(
        {"self_align": stage, "guided": stage, "num_accepted": 2, "grounding": None}
    )
    return Recipe(rewrite=rewrite, prompter=prompter, run_seed=3, max_model_len=256)


def rewritten(
    planned: tuple[Path, Plan], prompter: Prompter, where: Path, *, num_actors: int, latencies: int
) -> dict[str, bytes]:
    """Every shard's records as they lie in the store, by engines whose latencies are drawn at random."""
    (where / "problems").parent.mkdir(parents=True)
    (where / "problems").symlink_to(planned[0] / "problems")
    store = LocalStore(where)
    draws = random.Random(latencies)
    names = list(planned[1].shards)
    draws.shuffle(names)

    async def serve(completions: Sequence[Completion]) -> None:
        await asyncio.sleep(draws.expovariate(1.0))

    async def lane(rewriter: ShardRewriter) -> None:
        while names:
            await rewriter.rewrite(names.pop())

    async def main() -> None:
        actors = [
            ShardRewriter(store, recipe(prompter), FakePolicy(answer, serve=serve), LastWordVerifier())
            for _ in range(num_actors)
        ]
        await asyncio.gather(*(lane(actor) for actor in actors for _ in range(2)))

    run_in_virtual_time(main())
    commits = ShardSet(store, layout.RECORDS).commits()
    return {shard: store.read(commit.data_key) for shard, commit in commits.items()}


def test_records_are_equal_to_the_byte_twice_and_for_one_or_two_actors(
    planned: tuple[Path, Plan], prompter: Prompter, tmp_path: Path
) -> None:
    first, again, two = (
        rewritten(planned, prompter, tmp_path / str(i), num_actors=num_actors, latencies=i)
        for i, num_actors in enumerate((1, 1, 2))
    )
    assert first.keys() == planned[1].shards.keys()
    assert first == again == two


class CountingDecoder:
    """Answers wrongly, and counts a pair for each sample and a fall for every third."""

    def __init__(self) -> None:
        self.counts = PairCounts()

    async def decode(self, contexts: Contexts, mixing: Mixing, sampling: Sampling) -> list[Completion]:
        self.counts.num_pairs += sampling.num_samples
        await asyncio.sleep(1)
        self.counts.num_redone = self.counts.num_pairs // 3
        return [text_completion("never")] * sampling.num_samples


def test_the_shards_of_an_actor_tell_each_pair_of_hinted_decoding_once(
    planned: tuple[Path, Plan], prompter: Prompter, tmp_path: Path
) -> None:
    (tmp_path / "problems").symlink_to(planned[0] / "problems")
    decoder = CountingDecoder()
    rewrite = recipe(prompter).rewrite.model_copy(update={"method": "hinted"})
    setup = HintedSetup.of(Hinted(analysis=None, system=None, prompt=HINT), prompter, decoder)
    one = replace(recipe(prompter), rewrite=rewrite, hinted=setup)
    policy = FakePolicy(lambda prompt_ids, seed: text_completion("never"))

    async def main() -> None:
        rewriter = ShardRewriter(LocalStore(tmp_path), one, policy, LastWordVerifier())
        await asyncio.gather(*(rewriter.rewrite(shard) for shard in planned[1].shards))

    run_in_virtual_time(main())
    told: Counter[str] = Counter()
    for commit in ShardSet(LocalStore(tmp_path), layout.RECORDS).commits().values():
        told.update(commit.summary["pairs"])
    assert told == {"num_pairs": NUM_PROBLEMS, "num_redone": NUM_PROBLEMS // 3}


class CountingEngine:
    """One second a request, a hundred for the first; notes how many were under way."""

    def __init__(self) -> None:
        self.num_under_way = self.most_under_way = self.num_served = 0
        self.num_served_when_the_slow_one_ended = 0

    async def serve(self, completions: Sequence[Completion]) -> None:
        is_slow = self.num_served == self.num_under_way == 0
        self.num_under_way += 1
        self.most_under_way = max(self.most_under_way, self.num_under_way)
        await asyncio.sleep(100 if is_slow else 1)
        self.num_under_way -= 1
        self.num_served += 1
        if is_slow:
            self.num_served_when_the_slow_one_ended = self.num_served


def test_a_slow_problem_holds_its_shard_but_not_the_engine(
    planned: tuple[Path, Plan], prompter: Prompter, tmp_path: Path
) -> None:
    (tmp_path / "problems").symlink_to(planned[0] / "problems")
    engine = CountingEngine()
    policy = FakePolicy(lambda prompt_ids, seed: text_completion("never"), serve=engine.serve)

    async def main() -> None:
        rewriter = ShardRewriter(
            LocalStore(tmp_path), recipe(prompter), policy, LastWordVerifier(), problems_in_flight=10
        )
        await asyncio.gather(*map(rewriter.rewrite, planned[1].shards))

    run_in_virtual_time(main())
    assert engine.most_under_way == 10
    num_requests = 4 * NUM_PROBLEMS  # two waves alone and two guided, for each
    assert engine.num_served == num_requests
    assert engine.num_served_when_the_slow_one_ended == num_requests - 3  # all but the slow problem's own


def test_a_problem_that_waits_for_its_shards_tokens_leaves_the_engine_to_other_shards(
    planned: tuple[Path, Plan], prompter: Prompter, tmp_path: Path
) -> None:
    (tmp_path / "problems").symlink_to(planned[0] / "problems")
    engine, tokens_per_wave = CountingEngine(), 2 * 64
    policy = FakePolicy(lambda prompt_ids, seed: text_completion("never"), serve=engine.serve)

    async def main() -> None:
        rewriter = ShardRewriter(
            LocalStore(tmp_path),
            recipe(prompter),
            policy,
            LastWordVerifier(),
            tokens_per_problem_of_run=1.5 * tokens_per_wave / SHARD_SIZE,
            problems_in_flight=SHARD_SIZE,
        )
        await asyncio.gather(*map(rewriter.rewrite, planned[1].shards))

    run_in_virtual_time(main())
    assert engine.most_under_way == SHARD_SIZE, "a wave of each shard, not of one alone"


async def test_a_shard_that_another_has_done_is_not_begun(
    planned: tuple[Path, Plan], prompter: Prompter, tmp_path: Path
) -> None:
    """As for an actor that was stopped, and comes back when its work was given to another."""
    (tmp_path / "problems").symlink_to(planned[0] / "problems")
    num_asked = 0

    async def count(completions: Sequence[Completion]) -> None:
        nonlocal num_asked
        num_asked += 1

    def rewriter() -> ShardRewriter:
        policy = FakePolicy(answer, serve=count)
        return ShardRewriter(LocalStore(tmp_path), recipe(prompter), policy, LastWordVerifier())

    shard = next(iter(planned[1].shards))
    done = await rewriter().rewrite(shard)
    asked_before, num_asked = num_asked, 0
    assert asked_before > 0
    assert await rewriter().rewrite(shard) == done
    assert num_asked == 0


def test_a_row_that_is_set_aside_is_not_sampled_and_the_others_are_as_without_it(
    planned: tuple[Path, Plan], prompter: Prompter, tmp_path: Path
) -> None:
    whole, part = LocalStore(tmp_path / "whole"), LocalStore(tmp_path / "part")
    asked: list[tuple[int, ...]] = []

    def journalled(prompt_ids: Sequence[int], seed: int) -> Completion:
        asked.append(tuple(prompt_ids))
        return answer(prompt_ids, seed)

    shard = min(planned[1].shards)
    problem = read_shard(LocalStore(planned[0]), PROBLEMS, shard)[3]
    row = QuarantinedRow(place=f"problem {problem.problem_id}", reason="why", detail="how", content="what")
    for store, set_aside in ((whole, {}), (part, {problem.problem_id: row})):
        store.root.mkdir()
        (store.root / "problems").symlink_to(planned[0] / "problems")
        asked.clear()
        rewriter = ShardRewriter(store, recipe(prompter), FakePolicy(journalled), LastWordVerifier())
        asyncio.run(rewriter.rewrite(shard, set_aside=set_aside))
    assert prompter.plain(problem) not in asked
    (summary,) = ShardSet(part, layout.RECORDS).summaries(ShardSummary.from_json)
    assert summary.set_aside == (row,)
    as_before, now = (ShardSet(store, layout.RECORDS).table(shard) for store in (whole, part))
    for before, record in zip(records_from_table(as_before), records_from_table(now), strict=True):
        if record.problem == problem:
            assert (record.source, record.attempts) == (Source.DROPPED, ())
            assert dropped_because(record) == "the problem was not sampled"
        else:
            assert record == before
