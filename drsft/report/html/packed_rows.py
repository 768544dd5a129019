"""Packs the rows for the page: JSON, gzipped, in base64; the page's script unpacks and draws them.

Ten thousand rows as HTML are tens of MB and take seconds to lay out; packed they are a few MB, and only
visible ones are drawn.
"""

import base64
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from drsft.report.data import AttemptShown, BrowsedRow, ShownText
from drsft.report.wording import PHASE_NAMES

__all__ = ["PackedRows", "pack_rows"]

MAX_BYTES = 8 << 20  # gzipped; base64 makes 4/3 of it
GZIP = 31  # zlib's name for its largest window with a gzip header


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRows:
    base64: str
    num_rows: int
    num_brief: int  # of these, rows whose attempts come without their texts


def pack_rows(rows: Iterable[BrowsedRow], *, max_bytes: int = MAX_BYTES) -> PackedRows:
    """Packs rows from the start, and stops once their compressed JSON has reached `max_bytes`.

    The result may be slightly larger, and base64 makes it a third larger. After a third of `max_bytes`, rows
    are packed without the texts of their attempts.
    """
    compressor = zlib.compressobj(level=6, wbits=GZIP)
    packed = bytearray(compressor.compress(b"["))
    num_rows = num_brief = 0
    for row in rows:
        is_brief = 3 * len(packed) >= max_bytes
        text = json.dumps(_row(row, is_brief=is_brief), ensure_ascii=False, separators=(",", ":"))
        packed += compressor.compress(("," if num_rows else "").encode() + text.encode())
        num_rows += 1
        num_brief += is_brief
        if len(packed) >= max_bytes:
            break
    packed += compressor.compress(b"]") + compressor.flush()
    return PackedRows(base64=base64.b64encode(packed).decode(), num_rows=num_rows, num_brief=num_brief)


def _row(row: BrowsedRow, *, is_brief: bool) -> dict[str, Any]:
    return {
        "id": row.problem_id,
        "question": row.question,
        "reference": row.reference,
        "source": row.source.value,
        "reason": row.reason,
        "expert": _text(row.expert),
        "kept": None if row.kept is None else _text(row.kept),
        "attempts": [_attempt(attempt, is_brief=is_brief) for attempt in row.attempts],
    }


def _text(shown: ShownText) -> dict[str, Any]:
    """Returns a text with its tokens and scores as the page's script reads it.

    `cuts` are token lengths in UTF-16 units, `phi` is in tenths of a nat.
    """
    if not shown.pieces:
        return {"text": shown.text}
    return {
        "text": shown.text,
        "cuts": [len(piece.encode("utf-16-le")) // 2 for piece in shown.pieces],
        "phi": [round(10 * phi) for phi in shown.phis],
    }


def _attempt(attempt: AttemptShown, *, is_brief: bool) -> dict[str, Any]:
    return {
        "stage": PHASE_NAMES[attempt.phase],
        "outcome": attempt.outcome.value,
        "reason": attempt.reason,
        "answer": attempt.answer,
        "tokens": attempt.num_tokens,
        "text": None if is_brief else attempt.text,
    }
