"""Assembles a first configuration from the survey of the data, the facts of the model, and the machine's
size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drsft.config import EMBEDDED_PROMPTS, Problems, Prompts, RunConfig, Target
from drsft.config.base import Frozen
from drsft.config.benchmarks import KNOWN_BENCHMARKS
from drsft.config.configfile import settings_of
from drsft.errors import ModelError
from drsft.policy.prompts import Prompter, target_prompter
from drsft.setup.choice import Choice, Draft
from drsft.setup.data_survey import WESTERN, DataSurvey, survey_data
from drsft.setup.engine_size import EngineSize, TrainSize, cpu_dtype, engine_size, train_size
from drsft.setup.found_columns import Ask, GivenColumns
from drsft.setup.machine import Machine
from drsft.setup.model_facts import ModelFacts, read_model_facts
from drsft.setup.token_limits import TokenLimits, measure_texts, token_limits
from drsft.setup.yaml_writer import commented_yaml

__all__ = ["Starter", "Wanted", "make_starter"]

SOURCE = "drsft init"
MIN_ROWS_TO_HOLD_OUT = 20
CPU_PROBLEMS = 300  # of a first run without a GPU
Tree = dict[str, Any]

_LETTER = "put the letter of your choice within"
_CODE_GUIDED = (
    "{question}\n\nA solution is given below. Work towards an understanding of your own first and lean on it "
    "only where you are stuck. Then give your own solution in one block of Python code, without mentioning "
    "the given one.\n\n{demonstration}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the user gave to `drsft init`: data, model and chosen settings."""

    path: str
    model: str
    name: str
    columns: GivenColumns
    kind: str | None = None
    split: str | None = None
    subset: str | None = None
    storage: str = "runs"
    chat_template: str | None = None
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Starter:
    config: RunConfig
    text: str  # YAML
    warning: str | None  # rows that the run would set aside
    choices: tuple[Choice, ...]


class _DataAndModel(Frozen):
    problems: Problems
    target: Target


def make_starter(wanted: Wanted, ask: Ask, machine: Machine) -> Starter:
    """Returns a first configuration, its YAML text, and the choices in it with their reasons.

    `ask` decides where a column is not clear. Raises InputError, ModelError or ConfigError, whose one line
    names the fix.
    """
    tree = _first_tree(wanted)
    data_keys = [one for one in wanted.overrides if one.startswith(("problems.", "target."))]
    both = {"problems": tree["problems"], "target": tree["target"]}
    given = settings_of(_DataAndModel, both, data_keys, source=SOURCE)
    facts = read_model_facts(given.target.model)
    prompter = target_prompter(given.target)  # report a rejected template before the data is read
    survey = survey_data(given.problems, wanted.columns, ask, kind=wanted.kind)
    draft = Draft(tree)
    prompts = _prompts(survey, wanted.model)
    limits = _limits(survey, prompter.under(Prompts.model_validate(dict(prompts))), facts)
    engine = engine_size(facts, machine, max_model_len=limits.max_model_len)
    train = train_size(facts, machine)
    _choose_problems(draft, survey, machine, wanted)
    _choose_target(draft, prompts, limits, facts, machine, engine)
    _choose_rewriting(draft, survey, limits, machine)
    _choose_training(draft, survey, limits, facts, machine, train)
    _choose_evaluation(draft, survey, limits, machine)
    _choose_resources(draft, machine, engine, train)
    config = settings_of(RunConfig, tree, wanted.overrides, source=SOURCE)
    head = (
        f"Made by drsft init from {wanted.path} and {wanted.model}.\n"
        "All keys and their defaults: docs/configuration.md."
    )
    return Starter(
        config=config,
        text=commented_yaml(tree, draft.comments, head=head),
        warning=_warning(survey),
        choices=tuple(draft.choices),
    )


def _warning(survey: DataSurvey) -> str | None:
    if not survey.num_set_aside:
        return None
    return (
        f"{survey.num_set_aside} of {survey.num_checked} checked rows cannot be used, the first because of "
        f"{survey.first_set_aside}"
    )


def _first_tree(wanted: Wanted) -> Tree:
    problems = {"path": wanted.path, "split": wanted.split, "subset": wanted.subset}
    target = {"model": wanted.model, "chat_template": wanted.chat_template}
    return {
        "name": wanted.name,
        "storage": wanted.storage,
        "problems": {key: value for key, value in problems.items() if value is not None},
        "target": {key: value for key, value in target.items() if value is not None},
    }


def _prompts(survey: DataSurvey, model: str) -> Mapping[str, str]:
    """Returns the prompts that differ from the defaults."""
    usual = Prompts()
    if survey.problems.kind == "code":
        name = "humaneval" if "test" not in (survey.columns.question or "") else "mbpp"
        return {"plain": KNOWN_BENCHMARKS[name]["prompt"], "guided": _CODE_GUIDED}
    if model == "embedded":
        return EMBEDDED_PROMPTS.model_dump(exclude_defaults=True)
    names = ("plain", "guided") if survey.columns.has_solutions else ("plain", "answered")
    if survey.problems.kind == "choice":
        return {
            one: getattr(usual, one)
            .replace("put your final answer within", _LETTER)
            .replace("put your final answer", _LETTER.removesuffix(" within"))
            for one in names
        }
    return {}


def _limits(survey: DataSurvey, prompter: Prompter, facts: ModelFacts) -> TokenLimits:
    tokens = measure_texts(survey.sample, prompter)
    return token_limits(tokens, num_positions=facts.num_positions, has_solutions=survey.columns.has_solutions)


def _choose_problems(draft: Draft, survey: DataSurvey, machine: Machine, wanted: Wanted) -> None:
    problems, found = survey.problems, survey.columns
    if problems.reading.encoding == WESTERN and "reading" not in draft.tree["problems"]:
        draft.choose(
            "problems.reading.encoding", WESTERN, "the text is not UTF-8; check that its accents are right"
        )
    if wanted.split is None and problems.split != "train":
        draft.choose("problems.split", problems.split, "there is no training split")
    for name in ("question", "demonstration", "reference", "messages"):
        column = getattr(found, name)
        if column is not None and not (found.is_code and name == "reference"):
            reason = found.reasons.get(name, "given")
            if name == "demonstration" and not found.has_solutions:
                reason = "no field holds solutions: the answer is shown as the guide"
            draft.choose(f"problems.columns.{name}", column, reason)
    if found.kind is not None:
        draft.choose("problems.columns.kind", found.kind, found.reasons["kind"])
    draft.choose("problems.kind", problems.kind, survey.kind_reason)
    if problems.options_from is not None:
        draft.choose("problems.options_from", problems.options_from, "the number of the first option")
    if survey.held_out_split is None and survey.num_rows >= MIN_ROWS_TO_HOLD_OUT:
        share = _held_out_percent(survey)
        draft.choose("problems.part", f"0-{100 - share}", f"percent; the last {share} evaluate")
    if not machine.num_gpus and survey.num_rows > CPU_PROBLEMS:
        draft.choose("problems.limit", CPU_PROBLEMS, "a first run without a GPU; null takes all problems")


def _held_out_percent(survey: DataSurvey) -> int:
    return 20 if survey.num_rows < 500 else 10


def _choose_target(
    draft: Draft,
    prompts: Mapping[str, str],
    limits: TokenLimits,
    facts: ModelFacts,
    machine: Machine,
    engine: EngineSize,
) -> None:
    if not machine.num_gpus:
        dtype = cpu_dtype(facts, machine)
        fast = "the processor multiplies it in hardware (AMX or AVX-512)"
        draft.choose("target.dtype", dtype, fast if dtype == "bfloat16" else "without a GPU")
    cut = f", all that the model has ({facts.num_positions:,})" if limits.is_cut_by_positions else ""
    draft.choose(
        "target.max_model_len",
        limits.max_model_len,
        f"longest prompt with its guide {limits.longest_prompt:,} tokens, and max_tokens{cut}",
    )
    for name, prompt in prompts.items():
        draft.choose(
            f"target.prompts.{name}",
            prompt,
            "asks for the answer as the verifier reads it",
            is_told=False,
        )
    if not engine.fits:
        memory = "GPU memory" if machine.num_gpus else "free memory"
        raise ModelError(
            f"--model: {facts.num_parameters / 1e9:.1f} billion parameters are too many for this machine "
            f"({machine}); give a smaller model, or a machine with more {memory}"
        )
    if engine.max_num_seqs is not None:
        draft.choose(
            "target.engine.max_num_seqs", engine.max_num_seqs, "sequences at once that the cache holds"
        )
    if engine.kv_cache_mib is not None:
        draft.choose("target.engine.kv_cache_mib", engine.kv_cache_mib, "of each engine, in free memory")
        draft.choose("target.engine.enforce_eager", True, "compiling takes longer than a small run")
    if engine.gpus_per_engine > 1:
        draft.choose(
            "target.engine.tensor_parallel_size", engine.gpus_per_engine, "the weights need so many GPUs"
        )


def _choose_rewriting(draft: Draft, survey: DataSurvey, limits: TokenLimits, machine: Machine) -> None:
    reason = (
        f"solutions have {limits.p99_demonstration:,} tokens at the 99th percentile"
        if survey.columns.has_solutions
        else "nothing tells how long solutions are"
    )
    num_samples = 8 if machine.num_gpus else 4
    for phase in ("self_align", "guided"):
        draft.choose(f"rewrite.{phase}.num_samples", num_samples, "samples of a problem", is_told=False)
        draft.choose(f"rewrite.{phase}.wave_size", 4, "drawn at once", is_told=False)
        draft.choose(f"rewrite.{phase}.max_tokens", limits.max_tokens, reason)
    if not survey.columns.has_solutions:
        draft.choose("rewrite.guided.hint", "answer", "there are no solutions to show")
        draft.choose("rewrite.fallback", "drop", "a bare answer is no solution to train on")


def _choose_training(
    draft: Draft,
    survey: DataSurvey,
    limits: TokenLimits,
    facts: ModelFacts,
    machine: Machine,
    train: TrainSize,
) -> None:
    expert = {"name": "sft", "data": "expert", "objective": {"kind": "sft"}}
    if not survey.columns.has_solutions:
        expert = {"name": "dr+sft", "data": "rewritten", "objective": {"kind": "sft"}}
    rewritten = {"name": "dr+dft", "data": "rewritten", "objective": {"kind": "dft"}}
    reason = "the usual training beside drsft's" if survey.columns.has_solutions else "two objectives"
    draft.choose("train.arms", [expert, rewritten], reason)
    draft.choose("train.seq_len", limits.seq_len, "tokens of a row: a prompt and a completion fit")
    num_problems = survey.num_rows if machine.num_gpus else min(survey.num_rows, CPU_PROBLEMS)
    batch_rows = max(4, min(64, 1 << (max(1, num_problems // 16).bit_length() - 1)))
    draft.choose("train.batch_rows", batch_rows, f"for about {num_problems:,} problems")
    draft.choose("train.num_epochs", 3 if num_problems < 5000 else 1, "few problems are seen more often")
    if train.uses_adapters:
        draft.choose("train.lora", {}, "adapters: the whole model with its optimiser does not fit in memory")
        draft.choose("train.learning_rate", 2e-4, "for adapters")
    elif facts.num_parameters > 3e9:
        draft.choose("train.activation_checkpointing", True, "for a model of this size")


def _choose_evaluation(draft: Draft, survey: DataSurvey, limits: TokenLimits, machine: Machine) -> None:
    problems = survey.problems
    if survey.held_out_split is None and survey.num_rows < MIN_ROWS_TO_HOLD_OUT:
        draft.choose("evaluate.benchmarks", [], f"{survey.num_rows} problems are too few to hold some out")
        return
    kept = {"path", "subset", "reading", "columns", "kind", "options_from"}
    held_out = problems.model_dump(mode="json", include=kept, exclude_defaults=True)
    if survey.held_out_split is not None:
        name, held_out["split"] = survey.held_out_split, survey.held_out_split
        reason = f"the {name} split"
    else:
        percent = _held_out_percent(survey)
        name, held_out["part"] = "held-out", f"{100 - percent}-100"
        reason = f"{percent} % of the problems, which are not trained on"
        if problems.split != "train":
            held_out["split"] = problems.split
    held_out["limit"] = 500 if machine.num_gpus else 100
    draft.choose("evaluate.benchmarks", [{"name": name, "problems": held_out}], reason)
    draft.choose("evaluate.num_samples", 4, "samples of a problem; avg@4", is_told=False)
    draft.choose("evaluate.max_tokens", limits.max_tokens, "as in rewriting", is_told=False)


def _choose_resources(draft: Draft, machine: Machine, engine: EngineSize, train: TrainSize) -> None:
    here = str(machine)
    draft.choose("resources.rewrite_actors", engine.num_engines, f"engines side by side on {here}")
    if engine.cpus_per_engine is not None:
        draft.choose("resources.cpus_per_actor", engine.cpus_per_engine, "threads of an engine")
    if machine.num_gpus:
        draft.choose("resources.gpus_per_actor", engine.gpus_per_engine, "of an engine", is_told=False)
        draft.choose("resources.gpus_per_train_worker", 1, "of a worker", is_told=False)
    draft.choose("resources.train_workers", train.num_workers, "share one training")
