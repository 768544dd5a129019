"""Runs a small part of each stage several times, and compares the results.

Each stage is run twice in the same way, and a third time with one problem or text per batch. The third pass
matters since in a run the batches vary by chance: an actor takes the next shard when it is free.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from drsft.api.rewriter import Rewriter
from drsft.config import RunConfig
from drsft.doctor.determinism.agreement import Agreement, agreement_of, agreement_of_numbers
from drsft.errors import InputError
from drsft.gap.scoring import TokenScores, score_rows
from drsft.intake.problems import Intake, read_problems
from drsft.policy.prompts import model_location, target_prompter
from drsft.records import Attempt, Problem, Record
from drsft.run.tables import records_to_table
from drsft.train.encode import encode
from drsft.train.job import Job, Target, Training
from drsft.train.model import load_for_scoring
from drsft.train.optimiser import make_optimiser
from drsft.train.pack import pack
from drsft.train.prepare import prepare_model
from drsft.train.reference import gather_references
from drsft.train.step import train_step
from drsft.train.world import World
from drsft.verify.kinds import kinds_of

__all__ = ["Compared", "compare_passes"]

NUM_STEPS, NUM_ROWS = 2, 4  # of a training: a model of 135M parameters takes some ten seconds a step on a CPU
Passes = tuple[list[Record], list[Record], list[Record]]  # as given, again, in other batches


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """How far one kind of result of a stage is reproduced: by a second pass, and by one in other batches."""

    stage: str
    what: str
    again: Agreement
    in_other_batches: Agreement


def compare_passes(
    config: RunConfig, *, num_problems: int, say: Callable[[str], None] = lambda line: None
) -> Iterator[Compared]:
    """Runs rewriting, scoring and training three times each, and yields a comparison per kind of result.

    The input are the first `num_problems` problems of the configuration; without arms, no training is run.
    `say` is called with lines that report the progress. Memory is needed for an engine, and later for a
    training in fp32. Raises ConfigError, ModelError and InputError as the start of a run does.
    """
    problems = _problems(config, num_problems)
    say(f"rewriting {len(problems)} problems: twice together, then one by one")
    first, again, alone = _rewritten(config, problems)
    yield from _compared_samples(first, again, alone)
    say("scoring their texts: twice together, then one by one")
    yield _compared_scores(config, first)
    if config.train.arms:
        yield from _compared_trainings(config, first, say)


def _problems(config: RunConfig, num_problems: int) -> list[Problem]:
    prompter = target_prompter(config.target)
    found = read_problems(
        config.problems,
        Intake(),
        prompter=prompter,
        max_model_len=config.target.max_model_len,
        kinds=kinds_of(config.rewrite.verification),
    )
    return list(islice(found, num_problems))


def _rewritten(config: RunConfig, problems: Sequence[Problem]) -> Passes:
    """Returns the records of three passes; the first two start an engine each, since a second run starts with
    an empty prefix cache too.
    """
    with Rewriter(config.target, recipe=config.rewrite, seed=config.seed) as rewriter:
        first = rewriter.rewrite(problems)
    with Rewriter(config.target, recipe=config.rewrite, seed=config.seed) as rewriter:
        again = rewriter.rewrite(problems)
        alone = [record for problem in reversed(problems) for record in rewriter.rewrite([problem])]
    return first, again, alone[::-1]


def _compared_samples(first: list[Record], again: list[Record], alone: list[Record]) -> Iterator[Compared]:
    def compared(what: str, compare: Callable[[list[Record], list[Record]], Agreement]) -> Compared:
        return Compared(
            stage="rewrite", what=what, again=compare(first, again), in_other_batches=compare(first, alone)
        )

    yield compared("prompts and seeds of samples", lambda a, b: agreement_of(_asked(a), _asked(b)))
    yield compared("tokens of samples", lambda a, b: agreement_of(_tokens(a), _tokens(b)))
    yield compared("their log-probs, in nats", _agreement_of_logprobs)
    yield compared("texts that are kept", lambda a, b: agreement_of(_kept(a), _kept(b)))


def _samples(records: Sequence[Record]) -> dict[object, Attempt]:
    return {
        (place, attempt.rollout.phase, attempt.rollout.sample_index, attempt.rollout.prompt_hash): attempt
        for place, record in enumerate(records)
        for attempt in record.attempts
    }


def _asked(records: Sequence[Record]) -> dict[object, object]:
    return {name: attempt.rollout.seed for name, attempt in _samples(records).items()}


def _tokens(records: Sequence[Record]) -> dict[object, object]:
    return {name: attempt.rollout.completion.token_ids for name, attempt in _samples(records).items()}


def _kept(records: Sequence[Record]) -> dict[object, object]:
    return {place: (record.source, record.completion_ids) for place, record in enumerate(records)}


def _agreement_of_logprobs(one: Sequence[Record], other: Sequence[Record]) -> Agreement:
    """Returns how many log-probs are equal, of the samples whose tokens are equal."""
    found, others = _samples(one), _samples(other)
    both = [
        (found[name].rollout.completion, others[name].rollout.completion)
        for name in found.keys() & others.keys()
    ]
    pairs = [(mine, theirs) for mine, theirs in both if mine.token_ids == theirs.token_ids]
    return agreement_of_numbers(
        [logprob for mine, _ in pairs for logprob in mine.behaviour_logprobs_T or ()],
        [logprob for _, theirs in pairs for logprob in theirs.behaviour_logprobs_T or ()],
    )


def _compared_scores(config: RunConfig, records: Sequence[Record]) -> Compared:
    model = load_for_scoring(config.target.model, config.target.dtype)
    rows = [(one.prompt_ids, one.completion_ids) for one in records]
    together, again = (_logprobs(score_rows(model, rows)) for _ in range(2))
    alone = _logprobs([score for row in rows for score in score_rows(model, [row])])
    return Compared(
        stage="gap",
        what="log-probs of kept texts, in nats",
        again=agreement_of_numbers(together, again),
        in_other_batches=agreement_of_numbers(together, alone),
    )


def _logprobs(scores: Sequence[TokenScores]) -> list[float]:
    return [float(logprob) for score in scores for logprob in score.logprobs_T]


def _compared_trainings(
    config: RunConfig, records: Sequence[Record], say: Callable[[str], None]
) -> Iterator[Compared]:
    several = _training(config, records, micro_batch_rows=NUM_ROWS)
    say(f"training {NUM_STEPS} steps on {len(several.rows)} texts, for the first of three times")
    losses, weights = _trained(several)
    say("the same steps again")
    losses_again, weights_again = _trained(several)
    say("the same steps, text by text")
    losses_apart, weights_apart = _trained(_training(config, records, micro_batch_rows=1))
    yield Compared(
        stage="train",
        what="losses",
        again=agreement_of_numbers(losses, losses_again),
        in_other_batches=agreement_of_numbers(losses, losses_apart),
    )
    yield Compared(
        stage="train",
        what="weights after them",
        again=_agreement_of_weights(weights, weights_again),
        in_other_batches=_agreement_of_weights(weights, weights_apart),
    )


def _training(config: RunConfig, records: Sequence[Record], *, micro_batch_rows: int) -> Training:
    """Returns a training of the first arm, one text per row, so that `micro_batch_rows` can split a batch."""
    arm = config.train.arms[0]
    table = records_to_table(records)
    examples = encode(table, data=arm.data, seq_len=config.train.seq_len).examples[:NUM_ROWS]
    if not examples:
        raise InputError(
            f"none of the {len(records)} problems gives a text that arm {arm.name!r} can train on; "
            "try more problems: --problems"
        )
    settings = config.train.model_copy(
        update={
            "seq_len": max(len(example.input_ids_T) for example in examples),
            "packing": False,
            "batch_rows": len(examples),
            "micro_batch_rows": micro_batch_rows,
            "num_epochs": NUM_STEPS,
            "validation_share": 0.0,
        }
    )
    return Training(
        job=Job(arm=arm, seed=config.train.seeds[0]),
        settings=settings,
        target=Target(
            location=model_location(config.train.initial_model or config.target.model),
            compute_dtype=getattr(torch, config.target.dtype),
        ),
        rows=pack(examples, seq_len=settings.seq_len, one_a_row=True),
        world=World(),
    )


def _trained(training: Training) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Returns each step's loss, and the weights after the last one."""
    model = prepare_model(training)
    references = gather_references(training, model, None)
    optimiser = make_optimiser(model, training.settings)
    losses = [
        train_step(training, model, optimiser, step, references=references)["loss"]
        for step in range(training.order.num_steps)
    ]
    return losses, {name: parameter.detach() for name, parameter in model.named_parameters()}


def _agreement_of_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> Agreement:
    return Agreement(
        num_equal=sum(int((one[name] == other[name]).sum()) for name in one),
        num_compared=sum(weight.numel() for weight in one.values()),
        largest_difference=max(float((one[name] - other[name]).abs().max()) for name in one),
    )
