"""The base class of all settings, and their fingerprint: a hash that names results by the settings behind
them.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["Frozen", "fingerprint", "merged"]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def fingerprint(settings: Any, *, num_digits: int) -> str:
    """Returns `num_digits` hex digits of a hash over settings (JSON values).

    The order of keys does not matter.
    """
    canonical = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:num_digits]


def merged(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `defaults` with the keys of `given` added or replaced. Where both have a dict, the dicts are
    merged in the same way.
    """
    result = {**defaults, **given}
    for key in defaults.keys() & given.keys():
        if isinstance(defaults[key], dict) and isinstance(given[key], dict):
            result[key] = merged(defaults[key], given[key])
    return result
