"""Implements `drsft doctor template`: a model's turn as it will be trained, or why its template is
rejected.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from drsft.config import RunConfig, Target
from drsft.config.base import Frozen
from drsft.config.configfile import load_config, settings_of
from drsft.errors import ModelError
from drsft.policy.prompts import Prompter, target_prompter
from drsft.policy.turn.probes import ANSWER, QUESTION
from drsft.records import Problem

__all__ = ["TemplateReport", "check_template"]


class _OnlyTarget(Frozen):
    target: Target


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateReport:
    """How a model's template makes the assistant's turn; if the template is rejected, `refused` says why."""

    model: str
    refused: str | None
    prompter: Prompter | None

    def as_json(self) -> dict[str, Any]:
        """Returns the object that --json prints. A rejected template has all keys, with null, [] or false."""
        turn = None if self.prompter is None else self.prompter.turn
        thought = None if turn is None else turn.thought
        return {
            "model": self.model,
            "refused": self.refused,
            "prompt": turn and turn.prompt,
            "head": turn and turn.head,
            "tail": turn and turn.tail,
            "end_token_ids": list(turn.end_token_ids) if turn else [],
            "thought": thought
            and {
                "open": thought.open,
                "close": thought.close,
                "is_open_in_prompt": thought.is_open_in_prompt,
            },
            "equals_template": turn is not None and turn.equals_template,
            "differs_because": turn and turn.differs_because,
            "date": turn.date if turn and turn.reads_date else None,
            "variables": list(turn.read_variables) if turn else [],
        }

    def tables(self) -> list[Table]:
        """Returns three tables. Two show a prompt followed by an answer, as text and token ids: first the
        plain prompt, then the guided one, which contains the expert's solution. The third lists what was
        derived from the template, such as the tokens that end sampling.

        Returns [] if the template is rejected.
        """
        if self.prompter is None:
            return []
        problem = Problem(problem_id="", question=QUESTION, demonstration=ANSWER, reference="")
        prompts = {"plain": self.prompter.plain(problem), "guided": self.prompter.guided(problem)}
        tables = [self._pieces(name, prompt_ids) for name, prompt_ids in prompts.items()]
        return [*tables, self._facts()]

    def _pieces(self, name: str, prompt_ids: tuple[int, ...]) -> Table:
        assert self.prompter is not None
        table = Table("", "text", "ids", "loss", title=f"the {name} prompt, answered")
        table.add_row("prompt", *self._shown(prompt_ids), "")
        for part, ids in self.prompter.parts(ANSWER):
            if ids:
                table.add_row(part, *self._shown(ids), "yes")
        return table

    def _shown(self, ids: tuple[int, ...]) -> tuple[str, str]:
        assert self.prompter is not None
        text = self.prompter.tokenizer.decode(list(ids), skip_special_tokens=False)
        return repr(text)[1:-1], " ".join(map(str, ids))

    def _facts(self) -> Table:
        assert self.prompter is not None
        found, decode = self.as_json(), self.prompter.tokenizer.decode
        thought = self.prompter.turn.thought
        table = Table("", "derived from the template")
        ends = [f"{one} {decode([one], skip_special_tokens=False)}" for one in found["end_token_ids"]]
        table.add_row("sampling stops at", ", ".join(ends))
        marks = "none" if thought is None else f"{thought.open} … {thought.close}"
        state = "" if thought is None else f"; in the prompt: {thought.in_prompt.value}"
        table.add_row("thoughts", f"{marks}{state}")
        table.add_row("equals the template's rendering", found["differs_because"] or "yes")
        table.add_row("date", found["date"] or "none")
        table.add_row("variables", ", ".join(found["variables"]) or "none")
        for refusal in (self.prompter.turn.system_refusal, self.prompter.turn.conversation_refusal):
            if refusal:
                table.add_row("note", refusal)
        if self.prompter.is_cut_inside_a_token:
            table.add_row(
                "note",
                "the prompt ends inside a token of the whole rendering; it is trained as it is sampled",
            )
        return table


def check_template(model: str, overrides: list[str]) -> TemplateReport:
    """Returns the report on a model, or on the target of a configuration if `model` ends in .yaml or .yml.

    A rejected template is reported, not raised. Raises ConfigError for wrong overrides.
    """
    if model.endswith((".yaml", ".yml")):
        config: RunConfig = load_config(Path(model), overrides)
        target = config.target
    else:
        target = settings_of(_OnlyTarget, {"target": {"model": model}}, overrides, source=model).target
    try:
        prompter = target_prompter(target)
    except ModelError as error:
        return TemplateReport(model=model, refused=str(error), prompter=None)
    return TemplateReport(model=model, refused=None, prompter=prompter)
