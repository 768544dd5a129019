"""Reads bearer keys: several, named, stored as hashes, changed without a restart.

A line of the key file is `name sha256:<64 hex digits> [requests_per_minute=N] [tokens_per_minute=N]`; empty
lines and lines that start with # are ignored. Keys are 256 random bits, so a plain hash protects them: they
cannot be guessed.
"""

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drsft.errors import ConfigError
from serve.settings import Access

__all__ = ["Key", "KeyRing", "make_key", "read_keys"]

_LINE = re.compile(
    r"(?P<name>[A-Za-z0-9_.-]{1,64}) sha256:(?P<digest>[0-9a-f]{64})(?P<limits>( [a-z_]+=[1-9][0-9]{0,11})*)"
)
_LIMITS = ("requests_per_minute", "tokens_per_minute")
_LOOK_EVERY_S = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A caller's name, limits, and the SHA-256 `digest` of its secret, which itself is never stored."""

    name: str
    digest: bytes
    requests_per_minute: int
    tokens_per_minute: int


def make_key(name: str) -> tuple[str, str]:
    """Returns a new random secret and the key file's line for it. Raises ConfigError for an unusable name."""
    secret = f"drsft_{secrets.token_urlsafe(32)}"
    line = f"{name} sha256:{hashlib.sha256(secret.encode()).hexdigest()}"
    if not _LINE.fullmatch(line):
        raise ConfigError(f"key name {name!r}: use up to 64 letters, digits, '_', '.' and '-'")
    return secret, line


def read_keys(path: Path, access: Access) -> tuple[Key, ...]:
    """Returns the keys of a key file; limits that a line does not give are those of `access`.

    Raises ConfigError if the file cannot be used. The message never repeats a line, since a line may contain
    a secret by mistake.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"access.keys_file {str(path)!r} cannot be read: {error}") from error
    keys = tuple(
        _parse(line, number, access, path)
        for number, line in enumerate(map(str.strip, lines), 1)
        if line and not line.startswith("#")
    )
    if not keys:
        raise ConfigError(f"access.keys_file {str(path)!r} has no key; make one with drsft serve-key NAME")
    if len({key.name for key in keys}) < len(keys):
        raise ConfigError(f"access.keys_file {str(path)!r}: two keys have the same name; rename one")
    return keys


def _parse(line: str, number: int, access: Access, path: Path) -> Key:
    match = _LINE.fullmatch(line)
    limits = dict(part.split("=") for part in match["limits"].split()) if match else {}
    if match is None or limits.keys() - set(_LIMITS):
        raise ConfigError(
            f"access.keys_file {str(path)!r}, line {number}: expected NAME sha256:HEX "
            f"[{'=N] ['.join(_LIMITS)}=N]"
        )
    numbers = {name: int(limits.get(name, getattr(access, name))) for name in _LIMITS}
    return Key(name=match["name"], digest=bytes.fromhex(match["digest"]), **numbers)


class KeyRing:
    """The current keys. If the file becomes unreadable, the last valid ones stay in force."""

    def __init__(self, path: Path, access: Access, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._path, self._access, self._clock_s = path, access, clock_s
        self._keys = read_keys(path, access)
        self._stamp = _stamp(path)
        self._looked_s = clock_s()

    def find(self, secret: str) -> Key | None:
        """Returns the Key of a secret; None if there is none. Its time does not depend on which key matches.

        Reads the file again first if it has changed.
        """
        self._look()
        digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def _look(self) -> None:
        now_s = self._clock_s()
        if now_s - self._looked_s < _LOOK_EVERY_S:
            return
        self._looked_s = now_s
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = read_keys(self._path, self._access)
            _log.info("the key file has changed and was read again: %d keys", len(self._keys))
        except ConfigError as error:
            _log.error("the changed key file cannot be used, so the previous keys stay valid: %s", error)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Returns a value that changes when the file does, even if a mounted secret's link is replaced."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
