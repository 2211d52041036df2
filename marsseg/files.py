"""Files that are whole from the moment they exist; result files that a user names never replace existing ones."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from marsseg.errors import UsageError


def check_new_file(path: Path) -> None:
    """Refuses a path that cannot become a new file, before any work is done for it.

    Raises:
        UsageError: If the path exists already, its folder does not, or no file can be created there.
    """
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path}: expected a new file, found one that exists; remove it or name another")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: expected an existing folder, found none at {path.parent}; create it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{path}: expected a folder that can be written to, found {path.parent}")


def write_new_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a result whole or not at all.

    Args:
        path: A path that `check_new_file` accepts.
        write: Fills the open file.

    Raises:
        UsageError: If it cannot be written.
    """
    try:
        write_durably(path, write)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror or error}); nothing was changed") from None


def write_durably(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file whole or not at all: to a temporary file beside it, flushed to the disk, then renamed.

    Args:
        path: The file to write; an existing one is replaced.
        write: Fills the open file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
