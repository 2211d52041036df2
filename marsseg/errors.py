"""Every error that marsexp raises on purpose.

    MarsexpError
    ├── ConfigError   (ValueError)   an experiment config or recipe that is not valid
    ├── SpaceError    (ValueError)   a search space that is not valid
    ├── DataError     (ValueError)   images or masks that cannot be trained on
    ├── UsageError    (ValueError)   a command line that does not make sense (exit status 2)
    ├── NotFoundError (KeyError)     a run, a search or a file that does not exist
    ├── CheckpointError              a torn checkpoint, or no whole checkpoint
    ├── LedgerError                  a ledger that is locked or inconsistent
    │   └── TakenOverError           another process has taken over the search
    ├── TrackingError                a tracking store that cannot be opened or read
    └── TrainingError                training that failed: NaN, or a worker that died

Messages are one line: what was expected, what was found and where, what to do next.
"""

import difflib
from collections.abc import Iterable


class MarsexpError(Exception):
    """Root of all errors raised on purpose; the command shows its message as one line."""

    def __str__(self) -> str:
        # KeyError would show the repr of its message.
        return str(self.args[0]) if self.args else ""


class ConfigError(MarsexpError, ValueError):
    """An experiment config or recipe that is not valid."""


class SpaceError(MarsexpError, ValueError):
    """A search space that is not valid."""


class DataError(MarsexpError, ValueError):
    """Images or masks that cannot be trained on."""


class UsageError(MarsexpError, ValueError):
    """A command line that does not make sense."""


class NotFoundError(MarsexpError, KeyError):
    """A run, a search or a file that does not exist."""


class CheckpointError(MarsexpError):
    """A torn checkpoint, or no whole checkpoint."""


class LedgerError(MarsexpError):
    """A ledger that is locked or inconsistent."""


class TakenOverError(LedgerError):
    """Another process has taken over the search."""


class TrackingError(MarsexpError):
    """A tracking store that cannot be opened or read."""


class TrainingError(MarsexpError):
    """Training that failed: NaN, or a worker that died."""


def nearest_name_hint(name: str, known: Iterable[str]) -> str:
    """Returns `; did you mean 'x'?` for the known name nearest to `name`, or an empty string."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def kind_and_first_line(error: BaseException) -> str:
    """Returns the kind of an unexpected error, and the first line of its message."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or its kind if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
