"""Every error that drsft raises on purpose.

    DrsftError
    ├── UserError          the user can fix it; one line, exit code 2, no traceback
    │   ├── ConfigError    a key, a type or a value in a configuration
    │   ├── InputError     a data file that cannot be used at all (single bad rows are quarantined instead)
    │   ├── ModelError     a model folder or name that cannot be loaded
    │   ├── StorageError   an object store that cannot be reached, read or written
    │   │   └── DamagedError   an object that is not what was written there
    │   └── SetupError     the machine lacks something: a package, a port, memory
    ├── BusyError          another driver works on the same run; exit code 3
    └── StageError         a stage failed although its input was valid; exit code 1

A message says what is wrong, where, and how to fix it.
"""

import unicodedata

__all__ = [
    "BusyError",
    "ConfigError",
    "DamagedError",
    "DrsftError",
    "InputError",
    "ModelError",
    "SetupError",
    "StageError",
    "StorageError",
    "UserError",
]


MAX_LINE = 1200  # characters


class DrsftError(Exception):
    """Base class of drsft's errors; `exit_code` is the exit status of the command line.

    Each argument is a line of the message. Parts of it may come from untrusted files, so control characters
    are escaped and long lines are cut.
    """

    exit_code = 1

    def __str__(self) -> str:
        return "\n".join(_spelt_out(str(line)) for line in self.args)


class UserError(DrsftError):
    """An error that the user can fix. Its message is one line: what is wrong, where, and what to do."""

    exit_code = 2


class ConfigError(UserError):
    pass


class InputError(UserError):
    pass


class ModelError(UserError):
    pass


class StorageError(UserError):
    pass


class DamagedError(StorageError):
    pass


class SetupError(UserError):
    pass


class BusyError(DrsftError):
    exit_code = 3


class StageError(DrsftError):
    pass


def _spelt_out(text: str) -> str:
    unsafe = ("Cc", "Cf", "Cs", "Zl", "Zp")
    if len(text) > MAX_LINE:
        text = f"{text[: MAX_LINE // 2]} … {text[-MAX_LINE // 2 :]}"
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in unsafe else char
        for char in text
    )
