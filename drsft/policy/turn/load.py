"""Loads a target's tokenizer and chat template, and derives the assistant's turn from renderings of test
conversations.
"""

from datetime import UTC, datetime
from typing import Any

from drsft.config import Target
from drsft.errors import ModelError
from drsft.policy.turn.derive import derive
from drsft.policy.turn.probes import probes
from drsft.policy.turn.rendering import clock, environment, render
from drsft.policy.turn.sandbox import render_within_limits
from drsft.policy.turn.tokenizer_files import first_line, lexicon_of
from drsft.policy.turn.turn import Turn

__all__ = ["TurnRenderer", "check_stored_turn", "derive_turn", "special_tokens", "today"]


def today() -> str:
    """Returns today's date (UTC, ISO); a run keeps the date of its first start."""
    return datetime.now(UTC).date().isoformat()


def derive_turn(tokenizer: Any, target: Target, location: str, *, date: str | None = None) -> Turn:
    """Returns the layout of the assistant's turn for `target` and its tokenizer.

    A template that prints the date gets the target's date, else `date` (ISO), else today. Raises ModelError,
    one line, for a template that is missing, fails, or does not show the layout reliably.
    """
    template = _template(tokenizer, target, location)
    chosen = (date or today()) if target.date is None else target.date.isoformat()
    tokens = special_tokens(tokenizer)
    where = f"target.model {location!r}" if target.chat_template is None else "target.chat_template"
    try:
        renderings = render_within_limits(
            template, probes(), tokens=tokens, variables=target.chat_template_kwargs, date=chosen
        )
        _check_variables(target, renderings.variables)
        return derive(
            renderings,
            lexicon_of(tokenizer, location),
            template=template,
            variables=target.chat_template_kwargs,
            date=chosen,
            named=target.thought,
            allows_spelt_markers=target.spelt_markers,
        )
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from error


def check_stored_turn(turn: Turn, tokenizer: Any, location: str) -> None:
    """Raises ModelError if the turn stored in a run does not belong to the tokenizer, or its template cannot
    be used.

    A run's folder may come from someone else, so its template is tried in the sandbox before this process
    runs it.
    """
    asked = {"asked": probes()["asked"]}
    rendered = render_within_limits(
        turn.template, asked, tokens=special_tokens(tokenizer), variables=turn.variables, date=turn.date
    )
    if rendered.texts.get("asked") != turn.prompt:
        raise ModelError(
            f"target.model {location!r}: its special tokens differ from those when the run was started; "
            "rename the run or restore the model"
        )


def special_tokens(tokenizer: Any) -> dict[str, str]:
    """Returns a tokenizer's special tokens by the names that chat templates use, such as "bos_token"."""
    return {name: str(token) for name, token in tokenizer.special_tokens_map.items()}


class TurnRenderer:
    """Renders conversations with a turn's template, variables and date, in this process."""

    def __init__(self, turn: Turn, tokenizer: Any) -> None:
        self._template = environment().from_string(turn.template)
        self._given = {**special_tokens(tokenizer), **turn.variables}
        self._strftime_now = clock(turn.date)

    def render(self, messages: list[dict[str, Any]], *, add_generation_prompt: bool) -> str:
        """Renders messages. Raises ModelError if the template fails on them."""
        try:
            return render(
                self._template,
                messages,
                add_generation_prompt=add_generation_prompt,
                given=self._given,
                strftime_now=self._strftime_now,
            )
        except Exception as error:  # a template may raise anything
            raise ModelError(f"the chat template fails: {first_line(error)}") from error


def _template(tokenizer: Any, target: Target, location: str) -> str:
    if target.chat_template is not None:
        return target.chat_template
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"target.model {location!r}: its tokenizer has no chat template; set target.chat_template: FILE"
        )
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:
        raise ModelError(
            f"target.model {location!r}: {first_line(error)}; set target.chat_template: FILE"
        ) from error


def _check_variables(target: Target, read: tuple[str, ...]) -> None:
    for name in target.chat_template_kwargs:
        if name not in read:
            known = ", ".join(read) or "none"
            raise ModelError(
                f"its chat template reads no variable {name!r}, which target.chat_template_kwargs sets; "
                f"it reads {known}"
            )
