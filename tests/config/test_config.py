from pathlib import Path

import pytest

from drsft.config import Resources
from drsft.config.benchmarks import PAPER_BENCHMARKS
from drsft.config.configfile import load_config
from drsft.errors import ConfigError
from drsft.run import layout

SMALL = """
name: small
problems: {path: p.jsonl}
target: {model: m, max_model_len: 4096}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.mark.parametrize(
    ("override", "key", "words"),
    [
        ("train.learning_rat=1", "train.learning_rat", ["unknown key", "learning_rate"]),
        ("rewrite.self_align.max_tokens=many", "rewrite.self_align.max_tokens", ["an integer", "many"]),
        ("target.max_model_len=-3", "target.max_model_len", ["16", "-3"]),
        ("target.dtype=float8", "target.dtype", ["float32", "bfloat16", "float8"]),
        ("train.seeds=[a]", "train.seeds.0", ["an integer"]),
        ("train.arms=[{name: a},{name: a}]", "train.arms", ["differ"]),
        ("train.arms=[{name: a, objective: {kind: dftt}}]", "train.arms.0.objective", ["dftt", "sft"]),
        ("target.prompts.plain=hello", "target.prompts", ["{question}"]),
        ("train.arms=[{name: base}]", "train.arms", ["base", "reserved"]),
        ("train.arms={data: [expert]}", "train.arms", ["objectives"]),
        ("train.arms={data: [exprt], objectives: [sft]}", "train.arms.data", ["exprt", "self_only"]),
        ("train.arms={data: [expert, expert], objectives: [sft]}", "train.arms", ["differ"]),
        ("train.arms={data: [hinted], objectives: [sft]}", "the configuration", ["rewrite.hinted_beside"]),
        ("rewrite={method: hinted, hinted_beside: true}", "rewrite", ["hinted_beside"]),
        ("train.seeds=[0,0]", "train.seeds", ["differ"]),
        ("train.learning_rate=.inf", "train.learning_rate", ["finite"]),
        ("rewrite.self_align.temperature=0", "rewrite.self_align", ["num_samples: 1"]),
        ("evaluate.temperature=0", "evaluate", ["num_samples: 1"]),
        ("problems.path=''", "problems.path", ["at least 1"]),
        (
            "evaluate.benchmarks=[{name: a, problems: {path: x}}, {name: a, problems: {path: y}}]",
            "evaluate.benchmarks",
            ["differ"],
        ),
        ("rewrite.guided.max_tokens=4096", "the configuration", ["max_tokens", "4096"]),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(
    small: Path, override: str, key: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(small, [override])
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{small}: {key}: ")
    assert all(word in message for word in words)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("name: x\nproblems: {path: p}\n")
    with pytest.raises(ConfigError, match="target: the key is missing"):
        load_config(path)


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "name: \x00"])
def test_a_file_that_is_no_configuration_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("override", ["train.seeds", "=3", "train.arms.7.name=x", "name.deeper=1"])
def test_an_override_that_leads_nowhere_is_refused(small: Path, override: str) -> None:
    with pytest.raises(ConfigError, match="override"):
        load_config(small, [override])


def test_overrides_reach_every_depth(small: Path) -> None:
    config = load_config(small, ["train.learning_rate=1e-4", "train.arms=[{name: a}]", "train.arms.0.name=b"])
    assert config.train.learning_rate == 1e-4
    assert config.train.arms[0].name == "b"


def test_the_fingerprint_follows_what_is_computed_and_nothing_else(small: Path) -> None:
    plain = load_config(small).fingerprint
    assert load_config(small, ["resources.train_workers=8", "storage=/elsewhere"]).fingerprint == plain
    assert load_config(small, ["seed=1"]).fingerprint != plain
    assert load_config(small, ["rewrite.num_accepted=2"]).fingerprint != plain


def test_workers_divide_into_copies_of_a_training(small: Path) -> None:
    with pytest.raises(ConfigError, match=r"8\) must be a multiple of train_shards \(3"):
        load_config(small, ["resources.train_workers=8", "resources.train_shards=3"])
    elastic = ["resources.train_workers=8", "resources.train_shards=8", "resources.max_train_workers=16"]
    resources = load_config(small, elastic).resources
    assert [resources.shards_of(num) for num in (8, 12, 16)] == [8, 12, 8]
    assert Resources().shards_of(6) == 6


def test_a_matrix_is_every_objective_on_every_data_view(small: Path) -> None:
    matrix = "train.arms={data: [expert, self_only], objectives: [sft, {kind: idft, beta: 2}]}"
    arms = load_config(small, [matrix]).train.arms
    assert [arm.name for arm in arms] == ["expert+sft", "expert+idft", "self_only+sft", "self_only+idft"]
    listed = [
        "{name: a, data: expert, objective: {kind: sft}}",
        "{name: b, data: self_only, objective: idft}",
    ]
    first, last = load_config(small, [f"train.arms=[{listed[0]}, {listed[1]}]"]).train.arms
    assert (first.data, first.objective) == (arms[0].data, arms[0].objective)
    assert (last.data, last.objective.kind) == ("self_only", "idft")


def test_another_arm_seed_or_benchmark_shares_the_run_and_what_is_done(small: Path) -> None:
    mine = "evaluate.benchmarks=[{name: mine, problems: {path: x}}]"
    few = load_config(small, ["train.arms=[{name: sft, objective: {kind: sft}}]", mine])
    arms = "train.arms=[{name: sft, objective: {kind: sft}}, {name: dft}]"
    yours = "evaluate.benchmarks=[{name: yours, problems: {path: y}}, {name: mine, problems: {path: x}}]"
    many = load_config(small, [arms, "train.seeds=[0,1]", yours])
    assert many.run_id == few.run_id
    sft = few.train.arms[0]
    assert layout.training(many.train, sft, 0).prefix == layout.training(few.train, sft, 0).prefix
    assert layout.training(many.train, sft, 0).prefix.startswith("train/sft-")
    (benchmark,) = few.evaluate.benchmarks
    assert layout.samples(many.evaluate, "base", benchmark) == layout.samples(few.evaluate, "base", benchmark)
    prefixes = {
        layout.training(many.train, arm, seed).prefix for arm in many.train.arms for seed in many.train.seeds
    }
    assert len(prefixes) == 4


@pytest.mark.parametrize(
    "change", ["train.learning_rate=1e-3", "train.arms=[{name: a, data: expert}]", "train.seq_len=64"]
)
def test_a_training_with_other_settings_lies_in_another_place(small: Path, change: str) -> None:
    plain, other = (
        load_config(small, ["train.arms=[{name: a}]"]),
        load_config(small, ["train.arms=[{name: a}]", change]),
    )
    assert plain.run_id == other.run_id
    assert layout.training(plain.train, plain.train.arms[0], 0) != layout.training(
        other.train, other.train.arms[0], 0
    )


@pytest.mark.parametrize(
    "change", ["evaluate.max_tokens=7", "evaluate.benchmarks=[{name: mine, problems: {path: z}}]"]
)
def test_an_evaluation_with_other_settings_lies_in_another_place(small: Path, change: str) -> None:
    mine = "evaluate.benchmarks=[{name: mine, problems: {path: x}}]"
    plain, other = load_config(small, [mine]).evaluate, load_config(small, [mine, change]).evaluate
    assert layout.samples(plain, "base", plain.benchmarks[0]) != layout.samples(
        other, "base", other.benchmarks[0]
    )


def test_benchmarks_that_screen_the_training_problems_belong_to_the_run(small: Path) -> None:
    options = ["problems.decontaminate={}"]
    runs = {
        load_config(
            small, [*options, f"evaluate.benchmarks=[{{name: a, problems: {{path: {path}}}}}]"]
        ).run_id
        for path in ("x", "y")
    }
    assert len(runs) == 2


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "jobs/configs").glob("*.yaml")))
def test_shipped_configurations_are_valid(path: Path) -> None:
    load_config(path)


@pytest.mark.parametrize(
    ("name", "model", "learning_rate"),
    [
        ("qwen2.5-math-7b", "Qwen/Qwen2.5-Math-7B", 5e-5),
        ("qwen2.5-math-1.5b", "Qwen/Qwen2.5-Math-1.5B", 5e-5),
        ("llama-3.1-8b-instruct", "meta-llama/Llama-3.1-8B-Instruct", 2e-5),
    ],
)
def test_the_papers_settings_are_ready(name: str, model: str, learning_rate: float) -> None:
    config = load_config(Path(__file__).parents[2] / f"jobs/configs/{name}.yaml")
    train, evaluate = config.train, config.evaluate
    assert (config.target.model, train.learning_rate) == (model, learning_rate)
    assert (train.batch_rows, train.packing, train.seq_len, train.num_epochs) == (256, False, 2048, 1)
    assert (train.warmup_ratio, train.weight_decay, train.adam_betas) == (0.1, 0.01, (0.9, 0.95))
    assert (evaluate.num_samples, evaluate.max_tokens, evaluate.temperature) == (16, 4096, 1.0)
    assert [one.name for one in evaluate.benchmarks] == list(PAPER_BENCHMARKS)
    assert {(arm.data, arm.objective.kind) for arm in train.arms} == {
        (data, kind) for data in ("expert", "rewritten") for kind in ("sft", "dft")
    }
    assert train.batch_rows % (train.micro_batch_rows * config.resources.train_workers) == 0


def test_only_what_is_sampled_has_to_fit_into_the_model(small: Path) -> None:
    short = ["target.max_model_len=2048", "rewrite.self_align.max_tokens=1024"]
    with pytest.raises(ConfigError, match=r"rewrite\.guided\.max_tokens \(2048\) must be below"):
        load_config(small, short)
    assert load_config(small, [*short, "rewrite.preset=rft"]).rewrite.preset == "rft"


def test_a_kind_that_a_model_judges_needs_a_model(small: Path) -> None:
    with pytest.raises(ConfigError, match=r"set rewrite\.verification\.judge"):
        load_config(small, ["problems.kind=judge"])
    judge = "rewrite.verification.judge={model: m, url: http://127.0.0.1:1/v1}"
    assert load_config(small, ["problems.kind=judge", judge]).problems.kind == "judge"
