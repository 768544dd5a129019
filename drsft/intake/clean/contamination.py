"""Finds training problems that overlap with a benchmark to be evaluated.

A problem is contaminated when `ngram` words in a row (default 13, as GPT-3's authors chose, arXiv 2005.14165,
appendix C) occur in a benchmark question too. Words are those of clean.words and include numbers, so an
exercise with other numbers matches only by a long run of words between its numbers.

- A benchmark question shorter than `ngram` but of at least `min_words` (default 8) words matches if the
  problem contains all of its words in a row.
- A still shorter one ("What is 2 + 2?") matches only as a whole: any text might contain it.
- Words in a row that `boilerplate_questions` (default 3) or more different benchmark questions share identify
  none of them ("where m and n are relatively prime positive integers. Find m + n") and do not count, except
  for a question that has no others.

Memory: one hash for each run of words of the benchmarks; nothing for the training problems.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from drsft.config import Decontaminate
from drsft.intake.clean.screen import Finding
from drsft.intake.clean.words import words
from drsft.records import Problem

__all__ = ["ContaminationScreen", "Match"]


@dataclass(frozen=True, slots=True)
class _Question:
    benchmark: str
    problem_id: str


@dataclass(frozen=True, slots=True)
class Match:
    """A benchmark's question and the run of words that a problem shares with it."""

    benchmark: str
    problem_id: str
    words: list[str]


class ContaminationScreen:
    """Sets aside problems that overlap with a question of a benchmark.

    `benchmarks` maps each name to its problems, which are read once, when the screen is made.
    """

    def __init__(self, benchmarks: Mapping[str, Iterable[Problem]], config: Decontaminate) -> None:
        self._ngram = config.ngram
        self._min_words = config.min_words
        self._runs: dict[int, _Question] = {}  # the first question with that run of words
        self._whole: dict[int, _Question] = {}
        self._lengths: set[int] = set()
        self._index(benchmarks, config.boilerplate_questions)

    def look_at(self, problem: Problem, place: str) -> Finding | None:
        match = next(self.matches(problem), None)
        return None if match is None else _finding(match)

    def matches(self, problem: Problem) -> Iterator[Match]:
        """Yields every overlap of the problem with a benchmark's question, longest runs of words first.

        One question can be yielded several times.
        """
        of_problem = words(problem.whole_question)
        question = self._whole.get(_hash(of_problem))
        if question is not None:
            yield Match(question.benchmark, question.problem_id, of_problem)
        for length in sorted(self._lengths, reverse=True):
            for run in _runs_of(of_problem, length):
                question = self._runs.get(_hash(run))
                if question is not None:
                    yield Match(question.benchmark, question.problem_id, run)

    def _index(self, benchmarks: Mapping[str, Iterable[Problem]], boilerplate_questions: int) -> None:
        """Reads the runs of words twice: first to find those shared by many questions, then to index the
        others.
        """
        questions: dict[int, tuple[_Question, list[int]]] = {}
        num_questions: Counter[int] = Counter()
        for benchmark, problems in benchmarks.items():
            for problem in problems:
                of_question = words(problem.whole_question)
                whole = _hash(of_question)
                if not of_question or whole in questions:
                    continue
                hashes = self._hashes(of_question)
                num_questions.update(set(hashes))
                questions[whole] = (_Question(benchmark, problem.problem_id), hashes)
        for whole, (question, hashes) in questions.items():
            self._whole[whole] = question
            telling = [run for run in hashes if num_questions[run] < boilerplate_questions]
            for run in telling or hashes:
                self._runs.setdefault(run, question)

    def _hashes(self, of_question: list[str]) -> list[int]:
        length = min(self._ngram, len(of_question))
        if length < min(self._min_words, self._ngram):
            return []
        self._lengths.add(length)
        return [_hash(run) for run in _runs_of(of_question, length)]


def _runs_of(of_text: list[str], length: int) -> Iterator[list[str]]:
    return (of_text[i : i + length] for i in range(len(of_text) - length + 1))


def _finding(match: Match) -> Finding:
    shown = " ".join(match.words)
    return Finding(
        reason=f"in benchmark {match.benchmark}",
        detail=f'{len(match.words)} words in a row as in its problem {match.problem_id}: "{shown[:200]}"',
    )


def _hash(run: list[str]) -> int:
    return int.from_bytes(hashlib.blake2b(" ".join(run).encode(), digest_size=8).digest(), "big")
