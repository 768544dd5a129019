"""The turn of a target: its tokenizer and chat template are loaded, tried on the probes, and derived from."""

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
    """The ISO date that a run keeps from its first start on."""
    return datetime.now(UTC).date().isoformat()


def derive_turn(tokenizer: Any, target: Target, location: str, *, date: str | None = None) -> Turn:
    """The turn that `target` asks of the tokenizer of `location`, as of its date, `date` (ISO) or today.

    Raises ModelError, one line, for a template that is missing, fails, or cannot be trained on soundly.
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
    """Raises ModelError for a turn that does not belong to the tokenizer, or whose template is none.

    A run's folder may be another person's: its template is tried within limits, too, before it runs in here.
    """
    asked = {"asked": probes()["asked"]}
    rendered = render_within_limits(
        turn.template, asked, tokens=special_tokens(tokenizer), variables=turn.variables, date=turn.date
    )
    if rendered.texts.get("asked") != turn.prompt:
        raise ModelError(
            f"target.model {location!r}: its special tokens are others than when the run was started; "
            "rename the run or restore the model"
        )


def special_tokens(tokenizer: Any) -> dict[str, str]:
    """A tokenizer's special tokens by the names under which templates read them."""
    return {name: str(token) for name, token in tokenizer.special_tokens_map.items()}


class TurnRenderer:
    """Renders conversations with a turn's template, variables and date, in this process."""

    def __init__(self, turn: Turn, tokenizer: Any) -> None:
        self._template = environment().from_string(turn.template)
        self._given = {**special_tokens(tokenizer), **turn.variables}
        self._strftime_now = clock(turn.date)

    def render(self, messages: list[dict[str, Any]], *, add_generation_prompt: bool) -> str:
        """Raises ModelError when the template fails on these messages."""
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
