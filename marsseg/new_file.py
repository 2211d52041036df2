"""Files that a person names for results: never in the place of another, and whole from the moment they exist."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from marsseg.errors import UsageError


def check_new_file(path: Path) -> None:
    """Refuses a path before any work is done for it.

    Raises:
        UsageError: If there is something already, or no folder for it.
    """
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path}: expected a new file, found one that exists; remove it or name another")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: expected an existing folder, found none at {path.parent}; create it first")


def write_new_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes to a temporary file beside `path`, then renames, so that a torn `path` never exists.

    Args:
        path: As `check_new_file` wants it.
        write: Fills the open file.

    Raises:
        UsageError: If it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror or error}); nothing was changed") from None
    finally:
        temporary.unlink(missing_ok=True)
