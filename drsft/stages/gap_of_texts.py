"""Implements `drsft gap CONFIG --data FILE --model MODEL`, for any texts under any model."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa
from rich.console import Console

from drsft.config import RunConfig
from drsft.gap.datasets import ReadCounts, read_texts
from drsft.gap.report import read_gap_report
from drsft.gap.scored_texts import Text, texts_of_records, texts_to_table
from drsft.policy.prompts import Prompter, model_location
from drsft.policy.provenance import model_fingerprint
from drsft.report.html.page import render_gap
from drsft.report.terminal.gap import gap_view
from drsft.run import layout
from drsft.run.run import Run, run_of
from drsft.run.shards import ShardSet
from drsft.run.tables import problems_of_records
from drsft.stages.actors import quiet_ray_data
from drsft.stages.cluster import connected, quiet_stderr
from drsft.stages.gap import Scoring, score
from drsft.stages.progress_board import start_board
from drsft.stages.progress_display import progress_shown
from drsft.stages.settled_resources import settled_resources
from drsft.stages.turn import prompter_of, run_prompter
from drsft.storage import table_bytes

__all__ = ["run_gap_of"]


def run_gap_of(config: RunConfig, *, data: str | None, model: str | None, console: Console) -> str:
    """Scores `data` (None: the run's records) under `model` (None: the target); returns the page's URL.

    Scores are stored below `gap/<data>-<digest>` of the run, where the digest is over texts and model. So the
    same command resumes, and another file or model never mixes with it.
    """
    run = run_of(config)
    store = run.store
    model = model or config.target.model
    prompter = prompter_of(model, run.config, store)
    reading = ReadCounts()
    rows = _rows_of_data(config, data, prompter, reading) if data else _rows_of_run(run, prompter)
    tables = list(_shards(rows, config.problems.shard_size))
    digest = hashlib.blake2b(model_fingerprint(model_location(model)).encode(), digest_size=4)
    for table in tables:
        digest.update(hashlib.sha256(table_bytes(table)).digest())
    stem = Path(data).name.partition(".")[0] if data else "records"
    folder = layout.gap_of(stem, digest.hexdigest())
    scoring = Scoring(model=model, texts=folder.texts, folder=folder)
    _say_what_was_read(console, reading, tables)
    shards = _write_texts(ShardSet(store, scoring.texts), tables)
    report = read_gap_report(store, folder)
    if report is None:
        with quiet_stderr(console), connected(dashboard_port=config.resources.dashboard_port):
            quiet_ray_data()
            settled = settled_resources(config.target, config.resources)
            config = config.model_copy(update={"resources": settled})
            board = start_board()
            with progress_shown(board, console):
                report = score(config, store.url, scoring, shards, board)
    store.put(folder.page, render_gap(report, title=f"{stem} under {model}").encode())
    console.print(gap_view(report))
    return f"{store.url}/{folder.page}"


def _rows_of_data(
    config: RunConfig, data: str, prompter: Prompter, reading: ReadCounts
) -> Iterator[list[Text]]:
    problems = config.problems.model_copy(update={"path": data})
    return read_texts(problems, reading, prompter=prompter, max_model_len=config.target.max_model_len)


def _rows_of_run(run: Run, prompter: Prompter) -> Iterator[list[Text]]:
    """Yields the first round's texts for another model, with its own prompt, re-tokenised if its tokenizer
    differs.
    """
    target = run_prompter(run.config.target, run.store)
    is_same = target.tokenizer.get_vocab() == prompter.tokenizer.get_vocab()
    for _, table in run.record_tables():
        prompts = {problem.problem_id: prompter.plain(problem) for problem in problems_of_records(table)}
        for text in texts_of_records(table, number=1):
            ids = text.completion_ids
            if not is_same:
                ids = _encoded_anew(ids, target, prompter)
            yield [
                Text(
                    row_id=text.row_id,
                    role=text.role,
                    index=text.index,
                    source=text.source,
                    prompt_ids=prompts[text.row_id],
                    completion_ids=ids,
                )
            ]


def _encoded_anew(ids: Sequence[int], target: Prompter, prompter: Prompter) -> tuple[int, ...]:
    """Returns the target's completion in another model's tokens, with its thought if both models have
    thoughts.
    """
    parts = target.split(ids)
    thought = None if parts.thought is None else target.decode(parts.thought).strip()
    return prompter.written(target.answer_text(ids).strip(), thought)


def _shards(rows: Iterator[list[Text]], size: int) -> Iterator[pa.Table]:
    while chunk := list(islice(rows, size)):
        yield texts_to_table([text for row in chunk for text in row])


def _write_texts(shards: ShardSet, tables: list[pa.Table]) -> dict[str, int]:
    done = shards.done()
    sizes = {}
    for number, table in enumerate(tables):
        name = f"{number:05d}"
        sizes[name] = table.num_rows
        if name not in done:
            shards.commit(name, table)
    return sizes


def _say_what_was_read(console: Console, reading: ReadCounts, tables: list[pa.Table]) -> None:
    aside = ", ".join(f"{count:,} {reason}" for reason, count in reading.set_aside.items())
    line = f"{sum(table.num_rows for table in tables):,} texts to score"
    if aside:
        line += f"; set aside: {aside} (the first: {reading.first})"
    console.print(line, highlight=False, markup=False, soft_wrap=True)
