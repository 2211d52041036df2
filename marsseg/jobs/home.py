"""The folder that holds everything on disk: the stores, the checkpoints and the workers' logs."""

import os
from dataclasses import dataclass
from pathlib import Path

from marsseg.errors import UsageError

ENVIRONMENT_VARIABLE = "MARSEXP_HOME"
_DEFAULT = "mlruns"
_SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Home:
    """Paths below one folder, which can be moved or copied as a whole.

    Args:
        path: An absolute path.
    """

    path: Path

    @property
    def ledger(self) -> Path:
        """The record of all searches."""
        return self.path / "ledger.db"

    @property
    def database(self) -> Path:
        """The embedded tracking store."""
        return self.path / "mlflow.db"

    def server(self, tracking_uri: str | None) -> str | None:
        """The tracking URI, or None if it is the embedded store's."""
        return None if tracking_uri == f"{_SQLITE}{self.database}" else tracking_uri

    def checkpoints(self, search: str, trial: int | None = None) -> Path:
        """Where a search, or one of its trials, keeps its checkpoints."""
        folder = self.path / "checkpoints" / search
        return folder if trial is None else folder / f"trial-{trial:05d}"

    @property
    def reproductions(self) -> Path:
        """Where each rerun has a folder for as long as it is trained."""
        return self.path / "reproductions"

    def log(self, name: str) -> Path:
        """The file for the output of the workers of a search or training."""
        return self.path / "logs" / f"{name}.log"


def open_home() -> Home:
    """The folder that `MARSEXP_HOME` names, by default `mlruns` in the current one.

    Raises:
        UsageError: If the path is a file, or cannot be part of a database address.
    """
    path = Path(os.environ.get(ENVIRONMENT_VARIABLE) or _DEFAULT).resolve()
    if set(str(path)) & set("%?"):
        raise UsageError(f"{ENVIRONMENT_VARIABLE}: expected a path without '%' and '?', found {path}")
    if path.exists() and not path.is_dir():
        raise UsageError(f"{ENVIRONMENT_VARIABLE}: expected a folder, found the file {path}")
    return Home(path)


def resolve_tracking_uri(uri: str) -> str:
    """A tracking URI that means the same from any current folder: SQLite files may be named relative to this one."""
    file, (_, mark, query) = sqlite_file(uri), uri.partition("?")
    return f"{_SQLITE}{file.resolve()}{mark}{query}" if file else uri


def sqlite_file(uri: str) -> Path | None:
    """The file of a tracking URI that names an SQLite database, or None if it names something else."""
    path = uri.removeprefix(_SQLITE).partition("?")[0]
    return Path(path) if uri.startswith(_SQLITE) and path not in ("", ":memory:") else None
