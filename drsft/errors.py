"""Every error that drsft raises on purpose.

    DrsftError
    ├── UserError          the user can mend it; one line, exit code 2, no traceback
    │   ├── ConfigError    a key, a type or a value in a configuration
    │   ├── InputError     a data file that cannot be used at all (single bad rows are quarantined instead)
    │   ├── ModelError     a model folder or name that cannot be loaded
    │   ├── StorageError   an object store that cannot be reached, read or written
    │   └── SetupError     the machine lacks something: a package, a port, memory
    ├── BusyError          another driver works on the same run; exit code 3
    └── StageError         a stage failed although its input was sound; exit code 1

A message says what is wrong, where, and how to mend it.
"""

__all__ = [
    "BusyError",
    "ConfigError",
    "DrsftError",
    "InputError",
    "ModelError",
    "SetupError",
    "StageError",
    "StorageError",
    "UserError",
]


class DrsftError(Exception):
    """Base of all; `exit_code` is what the command line ends with."""

    exit_code = 1


class UserError(DrsftError):
    exit_code = 2


class ConfigError(UserError):
    pass


class InputError(UserError):
    pass


class ModelError(UserError):
    pass


class StorageError(UserError):
    pass


class SetupError(UserError):
    pass


class BusyError(DrsftError):
    exit_code = 3


class StageError(DrsftError):
    pass
