"""Opens the tracking store: the embedded one below a folder, or an MLflow server.

The embedded store is prepared under a file lock, since two processes that open a fresh one at once would race in its
migrations. It also survives being moved: MLflow keeps absolute artifact paths, which are rewritten if the folder has
moved.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from marsseg.errors import TrackingError, first_line
from marsseg.tracking.view import experiment_tags

EXPERIMENT = "marsexp"
_ARTIFACTS = "artifacts"
_LOCK_TIMEOUT_S = 120

# Below this level MLflow reports its migrations and uploads.
logging.getLogger("mlflow").setLevel(logging.WARNING)
# This module also logs the traceback of every error it raises.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Store:
    """An open tracking store.

    Args:
        client: Client of the store.
        experiment_id: The experiment that holds all runs.
        uri: Tracking URI of the store.
    """

    client: MlflowClient
    experiment_id: str
    uri: str


def embedded_uri(home: Path) -> str:
    """The tracking URI of the store below a folder."""
    return f"sqlite:///{home / 'mlflow.db'}"


def store_uri(home: Path, tracking_uri: str | None = None) -> str:
    """Where runs go: to `tracking_uri` if given, otherwise into the store below `home`."""
    return tracking_uri or embedded_uri(home)


def open_store(home: Path, tracking_uri: str | None = None) -> Store:
    """Opens the store that `store_uri` names; the one below `home` is created if missing.

    Raises:
        TrackingError: If it cannot be opened.
    """
    uri = store_uri(home, tracking_uri)
    if uri != embedded_uri(home):
        with _one_line_errors(uri):
            return _open(uri, None)
    artifacts = home / _ARTIFACTS
    with _one_line_errors(uri):
        home.mkdir(parents=True, exist_ok=True)
    with _one_line_errors(uri), FileLock(home / "mlflow.db.lock", timeout=_LOCK_TIMEOUT_S):
        store = _open(uri, artifacts)
        _follow_moved_artifacts(store, artifacts)
    return store


def artifact_names(store: Store, run_id: str) -> list[str]:
    """The files and folders at the top level of a run's artifacts.

    Raises:
        TrackingError: If they cannot be listed.
    """
    with _named(f"run {run_id}: its artifacts"):
        return [file.path for file in store.client.list_artifacts(run_id)]


def read_artifact(store: Store, run_id: str, name: str) -> bytes:
    """The content of one artifact file of a run.

    Raises:
        TrackingError: If it cannot be read.
    """
    # Without a destination MLflow would leave the download in the temporary folder for good.
    with tempfile.TemporaryDirectory(prefix="marsexp-") as folder, _named(f"run {run_id}: {name}"):
        return Path(store.client.download_artifacts(run_id, name, folder)).read_bytes()


@contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except (MlflowException, OSError) as error:
        # Any lines before the last one only say which file is meant.
        reason = str(error).strip().splitlines()[-1]
        raise TrackingError(f"{what} cannot be read ({reason})") from None


def _open(uri: str, artifacts: Path | None) -> Store:
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        return Store(client, experiment.experiment_id, uri)
    location = artifacts.as_uri() if artifacts else None
    try:
        experiment_id = client.create_experiment(EXPERIMENT, location, tags=experiment_tags())
    except MlflowException:
        # Another client may have created it on the server first.
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            raise
        experiment_id = experiment.experiment_id
    return Store(client, experiment_id, uri)


def _follow_moved_artifacts(store: Store, artifacts: Path) -> None:
    experiment = store.client.get_experiment(store.experiment_id)
    old, new = experiment.artifact_location, artifacts.as_uri()
    # An experiment created under another address of this database keeps its artifacts elsewhere.
    if old == new or not old.endswith(f"/{_ARTIFACTS}"):
        return
    import sqlalchemy as sa

    columns = {
        "experiments": "artifact_location",
        "runs": "artifact_uri",
        "logged_models": "artifact_location",
    }
    engine = sa.create_engine(store.uri)
    with engine.begin() as connection:
        for name, column in columns.items():
            table = sa.table(name, sa.column(column))
            cell = table.c[column]
            moved = sa.literal(new) + sa.func.substr(cell, len(old) + 1)
            connection.execute(table.update().where(cell.startswith(old, autoescape=True)).values({column: moved}))
    engine.dispose()


@contextmanager
def _one_line_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # MLflow passes on errors of SQLAlchemy, requests and the file system.
        raise TrackingError(f"{uri}: cannot be opened as a tracking store ({first_line(error)})") from error
