"""Stores the layout of the assistant's turn in a run's folder: the first start derives it, every stage uses
it.
"""

import json
from dataclasses import asdict

from drsft.config import RunConfig, Target
from drsft.policy.prompts import Prompter, target_prompter
from drsft.policy.turn.turn import Turn
from drsft.run import layout
from drsft.run.run import Manifest
from drsft.storage import Store
from drsft.storage.typed import read_stored
from drsft.train.encode import ThoughtLength

__all__ = ["copy_turn", "prompter_of", "run_prompter", "thought_length"]


def run_prompter(target: Target, store: Store, *, date: str | None = None) -> Prompter:
    """Returns the prompter of the run's target, with the turn and the date that the run stores.

    The run's first start derives and stores them, as of `date` (ISO; None: today). A run that an older
    version started has none: its turn is derived as of the day of that start. Raises ModelError if the
    tokenizer cannot be loaded or its chat template cannot be used.
    """
    if not store.exists(layout.TURN):
        if store.exists(layout.MANIFEST):
            return target_prompter(target, date=read_stored(store, layout.MANIFEST, Manifest).created[:10])
        turn = target_prompter(target, date=date).turn
        store.create(layout.TURN, json.dumps(asdict(turn), ensure_ascii=False, indent=1).encode())
    return target_prompter(target, read_stored(store, layout.TURN, Turn))


def prompter_of(model: str, config: RunConfig, store: Store) -> Prompter:
    """Returns the prompter of `model`.

    For the run's target it has the stored turn. For another model, the turn is derived anew, with the date of
    the stored one.
    """
    own = run_prompter(config.target, store)
    if model == config.target.model:
        return own
    return target_prompter(Target(model=model, prompts=config.target.prompts), date=own.turn.date)


def copy_turn(run: Store, store: Store) -> None:
    """Copies the first round's stored turn to a later round; does nothing if the first round stores none."""
    if run.exists(layout.TURN):
        store.create(layout.TURN, run.read(layout.TURN))


def thought_length(config: RunConfig, store: Store) -> ThoughtLength | None:
    """Returns a function from a completion's ids to the number of tokens in its thought.

    Returns None if the run's turn marks no thoughts. The records' own counts are not used, since older
    records and experts' texts lack them.
    """
    if store.exists(layout.TURN) and read_stored(store, layout.TURN, Turn).thought is None:
        return None  # most models: the tokenizer need not be loaded
    prompter = run_prompter(config.target, store)
    if prompter.turn.thought is None:
        return None
    return lambda completion_ids: prompter.split(completion_ids).num_thought_tokens
