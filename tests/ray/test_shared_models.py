"""On a local Ray: engines that share models' shards give the samples that one engine gives, once each."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from drsft.config import Target
from drsft.config.configfile import load_config
from drsft.errors import StageError
from drsft.evaluate.benchmark_shards import missing_shards
from drsft.evaluate.plans import plan_benchmarks, read_plans
from drsft.evaluate.results import arm_scores
from drsft.policy.fake import FakePolicy, text_completion
from drsft.policy.prompts import Prompter, load_prompter, model_location
from drsft.policy.protocol import Policy
from drsft.records import Completion, stable_seed
from drsft.run import layout
from drsft.run.plan import read_problems
from drsft.run.run import Run
from drsft.stages.evaluation import is_complete, run_evaluation
from drsft.stages.progress_board import start_board
from drsft.storage import open_store, upload_folder
from tests.ray.test_runs import CONFIG
from tests.support.local_ray import local_ray
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]  # clusters start slowly on a busy machine

NUM_PROBLEMS, SHARD_SIZE, IN_FLIGHT = 48, 4, 2
HELD_OUT = f"{{path: 'embedded:held_out', limit: {NUM_PROBLEMS}, shard_size: {SHARD_SIZE}}}"
SETTINGS = (
    "train.arms=[{name: sft, data: expert, objective: {kind: sft}}]",
    "train.seeds=[0]",
    f"evaluate.benchmarks=[{{name: held-out, problems: {HELD_OUT}}}]",
    "evaluate.num_samples=2",
    f"target.engine.max_num_seqs={SHARD_SIZE}",
    f"resources.shards_in_flight_per_actor={IN_FLIGHT}",
    "resources.cpus_per_actor=0.1",
)
Prompt = tuple[int, ...]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with local_ray(__name__):
        yield


def planned(folder: Path, num_engines: int) -> Run:
    """A run whose one arm is trained, in a folder of its own; the export is the embedded model again."""
    config = load_config(CONFIG, (*SETTINGS, f"storage={folder}", f"resources.rewrite_actors={num_engines}"))
    run = Run(open_store(str(folder / "run")), config)
    plan_benchmarks(run, load_prompter(config.target.model, config.target.prompts))
    export = layout.training(config.train, config.train.arms[0], 0).export
    upload_folder(run.store, Path(model_location("embedded")), export)
    return run


def references(run: Run) -> dict[Prompt, str]:
    """The right answers, by the prompts of the problems."""
    config = run.config
    prompter = load_prompter(config.target.model, config.target.prompts)
    [benchmark] = config.evaluate.benchmarks
    plan = read_plans(run)[benchmark.name]
    problems = read_problems(run.store, layout.benchmark(benchmark), plan)
    return {tuple(prompter.plain(problem)): str(problem.reference) for problem in problems}


def told(
    answers: Mapping[Prompt, str], log: Path, num_engines: int, deadly: Prompt, target: Target, _: Prompter
) -> Policy:
    """Answers by prompt, model and seed alone, and notes in `log` what it is asked; the base's engine dies of
    `deadly`, each time that the file `alive` is not there, and then writes it if `log` has a file `once`.

    The first answers wait until all engines have loaded a model."""
    model = "base" if target.model == "embedded" else "sft"
    (log / f"load-{os.getpid()}-{model}").touch()

    def answer(prompt_ids: Sequence[int], seed: int) -> Completion:
        wait_until(lambda: len(list(log.glob("load-*"))) >= num_engines)
        prompt = tuple(prompt_ids)
        with (log / f"asked-{os.getpid()}").open("a") as file:
            file.write(json.dumps([model, prompt, seed]) + "\n")
        if model == "base" and prompt == deadly and not (log / "alive").exists():
            if (log / "once").exists():
                (log / "alive").touch()
            os._exit(1)
        is_right = stable_seed(seed, model) % 3 > 0
        return text_completion(f"The answer is \\boxed{{{answers[prompt] if is_right else 'none'}}}.")

    return FakePolicy(answer)


def asked(log: Path) -> Counter[tuple[str, Prompt, int]]:
    lines = [line for path in log.glob("asked-*") for line in path.read_text().splitlines()]
    return Counter((model, tuple(prompt), seed) for model, prompt, seed in map(json.loads, lines))


def evaluated(folder: Path, num_engines: int, *, deadly: int | None = None, once: bool = False) -> Run:
    run, log = planned(folder, num_engines), folder / "log"
    log.mkdir()
    if once:
        (log / "once").touch()
    answers = references(run)
    prompt = () if deadly is None else list(answers)[deadly]
    make_policy = partial(told, answers, log, num_engines, prompt)
    run_evaluation(run, read_plans(run), start_board(), make_policy=make_policy)
    return run


def tables(run: Run) -> dict[tuple[str, str], pa.Table]:
    [benchmark] = run.config.evaluate.benchmarks
    shards = read_plans(run)[benchmark.name].shards
    return {
        (model.name, shard): run.samples(model, benchmark).table(shard)
        for model in run.models()
        for shard in shards
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluated(tmp_path_factory.mktemp("alone"), 1)


def test_three_engines_share_two_models_and_give_what_one_gives(alone: Run, tmp_path: Path) -> None:
    shared = evaluated(tmp_path, 3)
    assert tables(shared) == tables(alone)
    assert [one.score for one in arm_scores(shared)] == [one.score for one in arm_scores(alone)]
    assert all(0.5 < one.score.avg_at_k.value < 0.8 for one in arm_scores(shared)), "both verdicts occur"
    assert set(asked(tmp_path / "log").values()) == {1}, "every sample is drawn once"
    engines = {
        model.arm: {one.work.worker for one in shared.evaluation_work(model)} for model in shared.models()
    }
    assert max(map(len, engines.values())) >= 2, "an engine without a model of its own helps"
    assert len(set.union(*engines.values())) == 3


def test_a_dead_engine_repeats_only_the_shards_it_had(alone: Run, tmp_path: Path) -> None:
    shared = evaluated(tmp_path, 3, deadly=NUM_PROBLEMS // 2, once=True)
    assert tables(shared) == tables(alone)
    repeated = [prompt for (_, prompt, _), times in asked(tmp_path / "log").items() if times > 1]
    assert 0 < len(set(repeated)) <= IN_FLIGHT * SHARD_SIZE


def test_an_engine_that_dies_each_time_costs_only_its_shards(alone: Run, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"^evaluate: base killed the engine 3 times") as caught:
        evaluated(tmp_path, 3, deadly=NUM_PROBLEMS // 2)
    assert "all other work is done and kept" in str(caught.value)
    run = planned(tmp_path, 3)
    plans = read_plans(run)
    missing = {model.arm: missing_shards(run, model, plans) for model in run.models()}
    assert not missing["sft"]
    assert 0 < len(missing["base"]) <= IN_FLIGHT
    (tmp_path / "log" / "alive").touch()
    again = partial(told, references(run), tmp_path / "log", 1, ())
    run_evaluation(run, plans, start_board(), make_policy=again)
    assert is_complete(run, plans)
    assert tables(run) == tables(alone)
