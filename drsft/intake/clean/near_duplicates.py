"""Finds near-duplicates among training problems: the first one stays, later ones that resemble it are set
aside.

Two questions resemble each other when the Jaccard similarity of their word shingles reaches the threshold:

    shared shingles / all shingles of both        "a b c d" and "a b c e", shingles of 2 words: 2 / 4

One name that occurs once in a question of W words changes 2 of W - 1 two-word shingles on each side, so at a
threshold of 0.8 it goes unnoticed below W = 19.

Exercises made from one template are the difficult case: "Ann has 5 cards and wins 3" and "... wins 4" share
nearly all words and are different problems. So, unless the configuration says otherwise, problems are only
compared when their numbers and signs, in order, and their reference answers agree. Such a group is nearly
always small and is compared in full; a larger one goes through MinHash LSH (library datasketch), cut into
bands so that a pair at the threshold is found with a probability of at least 0.98 (at 0.8 and 128
permutations: 18 bands of 7, 0.985 there and 0.9999 at 0.9). What LSH proposes is checked exactly, so nothing
is removed below the threshold.

Memory: four bytes for each distinct shingle and the place of each kept problem, no text; some 6 kB more for a
problem in a large group.
"""

import hashlib
import zlib

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from drsft.config import NearDuplicates
from drsft.intake.clean.screen import Finding
from drsft.intake.clean.words import figures, words
from drsft.records import Problem

__all__ = ["NearDuplicateScreen", "Shingles", "bands", "jaccard", "shingles"]

Shingles = NDArray[np.uint32]  # sorted hashes, each once

_LARGE_GROUP = 32  # comparing this many in full costs about as much as one sketch and a look-up
_FOUND = 0.98  # of the pairs at the threshold; false proposals cost only an exact check


class NearDuplicateScreen:
    """Sets aside a problem that resembles an accepted one; every problem that it accepts is remembered."""

    def __init__(self, config: NearDuplicates) -> None:
        self._config = config
        self._shingles: list[Shingles] = []
        self._places: list[str] = []
        self._groups: dict[int, list[int]] = {}
        self._lsh = MinHashLSH(
            num_perm=config.num_permutations,
            params=bands(threshold=config.threshold, num_permutations=config.num_permutations),
        )
        self._permutations = MinHash(num_perm=config.num_permutations).permutations

    def look_at(self, problem: Problem, place: str) -> Finding | None:
        of_question = words(problem.whole_question)
        if not of_question:
            return None
        group = self._group(problem, of_question)
        own = shingles(of_question, size=self._config.shingle_words, start=group & 0xFFFFFFFF)
        for row in self._candidates(group, own):
            similarity = jaccard(own, self._shingles[row])
            if similarity >= self._config.threshold:
                return Finding(
                    reason="near-duplicate",
                    detail=f"its word shingles have similarity {similarity:.2f} to {self._places[row]}",
                )
        self._remember(group, own, f"{place} (problem {problem.problem_id})")
        return None

    def _group(self, problem: Problem, of_question: list[str]) -> int:
        """Returns the hash of kind, numbers and answer, which two problems must share before they are
        compared at all.
        """
        key = [problem.kind]
        if self._config.numbers_distinguish:
            key += figures(of_question)
        if self._config.answers_distinguish:
            key += ["\x00", *words(problem.reference)]
        return _hash("\x1f".join(key))

    def _candidates(self, group: int, own: Shingles) -> list[int]:
        members = self._groups.get(group, [])
        if len(members) < _LARGE_GROUP:
            return members
        return sorted(self._lsh.query(self._sketch(own)))

    def _remember(self, group: int, own: Shingles, place: str) -> None:
        row = len(self._shingles)
        self._shingles.append(own)
        self._places.append(place)
        members = self._groups.setdefault(group, [])
        members.append(row)
        if len(members) >= _LARGE_GROUP:  # the group moves into the index as it becomes large
            for new in members if len(members) == _LARGE_GROUP else members[-1:]:
                self._lsh.insert(new, self._sketch(self._shingles[new]), check_duplication=False)

    def _sketch(self, own: Shingles) -> MinHash:
        sketch = MinHash(
            num_perm=self._config.num_permutations,
            hashfunc=int,  # shingles are hashes already
            permutations=self._permutations,
            scheme="affine32",
        )
        sketch.update_batch(own)
        return sketch


def bands(*, threshold: float, num_permutations: int) -> tuple[int, int]:
    """Returns the number of LSH's bands, and their length in permutations.

    They are the longest bands (which propose the fewest false pairs) that find a pair at the threshold with a
    probability of 0.98.

    A pair of similarity s agrees in one band of r permutations with probability s^r, hence is found in b
    bands with 1 - (1 - s^r)^b.
    """
    for rows in range(num_permutations // 2, 1, -1):
        num_bands = num_permutations // rows
        if 1 - (1 - threshold**rows) ** num_bands >= _FOUND:
            return num_bands, rows
    return num_permutations, 1


def shingles(of_words: list[str], *, size: int, start: int = 0) -> Shingles:
    """Returns the hashes of all runs of `size` words, or of the whole text when it is shorter.

    `start` seeds the hashes, so that texts of different groups have no hash in common.
    """
    runs = range(max(1, len(of_words) - size + 1))
    hashes = {zlib.crc32(" ".join(of_words[i : i + size]).encode(), start) for i in runs}
    return np.array(sorted(hashes), dtype=np.uint32)


def jaccard(a: Shingles, b: Shingles) -> float:
    """Returns |A ∩ B| / |A ∪ B|: 1 for equal sets, 0 for disjoint ones."""
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
