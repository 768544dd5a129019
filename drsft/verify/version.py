"""Identifies the verifier: verdicts of one version can be reproduced, those of another may differ."""

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

__all__ = ["verifier_version"]

_LIBRARIES = ("math-verify", "sympy")


@cache
def verifier_version() -> str:
    """Returns drsft's version and eight hex digits, which are a hash of the verifier's sources and of its
    libraries' versions.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    for library in _LIBRARIES:
        digest.update(f"{library} {version(library)}".encode())
    return f"{version('drsft')}-{digest.hexdigest()[:8]}"
