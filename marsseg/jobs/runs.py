"""Finds runs by what users type, and reads back their records: plain values, nothing executable."""

import json
import re
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from marsseg.config import ExperimentConfig, parse_config
from marsseg.errors import NotFoundError, TrackingError
from marsseg.jobs.home import Home, sqlite_file
from marsseg.jobs.settings import StudySettings
from marsseg.jobs.stored import latest_study, stored_settings
from marsseg.search.ledger import Ledger
from marsseg.search.state import replay
from marsseg.tracking.store import Store, open_store, read_artifact

_RUN_ID = re.compile(r"[0-9a-f]{4,32}")


def open_existing_store(home: Home, tracking_uri: str | None) -> Store:
    """Opens the tracking store without creating one: in the wrong folder it would be empty.

    Raises:
        NotFoundError: If the embedded store, or the SQLite file that the URI names, does not exist.
        TrackingError: If it cannot be opened.
    """
    server = home.server(tracking_uri)
    database = home.database if server is None else sqlite_file(server)
    if database is not None and not database.exists():
        remedy = "set MARSEXP_HOME to the folder that has one" if server is None else "correct --tracking-uri"
        raise NotFoundError(
            f"there is no tracking store at {database}; {remedy}, or start a search: marsexp search --budget 40"
        )
    return open_store(home.path, tracking_uri)


def find_run(home: Home, tracking_uri: str | None, text: str) -> tuple[Store, str]:
    """Opens the store and finds the run that `best`, `best:SEARCH`, a run ID or a prefix of one refers to.

    Returns:
        The open store and the full run ID.

    Raises:
        NotFoundError: If there is no such run, or more than one.
        TrackingError: If the store cannot be opened.
    """
    if text == "best" or text.startswith("best:"):
        settings, run_id = _best_run(home, text.partition(":")[2] or None)
        return open_existing_store(home, tracking_uri or settings.tracking_uri), run_id
    if not _RUN_ID.fullmatch(text):
        raise NotFoundError(
            f"expected a run ID (4 to 32 digits 0-9a-f), 'best' or 'best:SEARCH', found '{text}'; "
            "see marsexp leaderboard"
        )
    store = open_existing_store(home, tracking_uri)
    condition = f"attributes.run_id LIKE '{text}%'"
    found = store.client.search_runs([store.experiment_id], condition, ViewType.ACTIVE_ONLY, max_results=3)
    if not found:
        raise NotFoundError(f"there is no run whose ID begins with '{text}'; see marsexp leaderboard")
    if len(found) > 1:
        ids = ", ".join(run.info.run_id[:12] for run in found)
        raise NotFoundError(f"'{text}' is an ambiguous run ID prefix ({ids}, …); give more digits")
    return store, str(found[0].info.run_id)


def _best_run(home: Home, study: str | None) -> tuple[StudySettings, str]:
    ledger = Ledger(home.ledger)
    settings = stored_settings(ledger, study) if study else latest_study(ledger)
    study = settings.name
    winner = replay(ledger.events(study)).winner
    if winner is None:
        raise NotFoundError(f"'{study}' has no completed trial; see: marsexp leaderboard {study}")
    if not winner.run_id:
        raise NotFoundError(f"the winner of '{study}' is not in the tracking store yet; {settings.resume_hint}")
    return settings, winner.run_id


@dataclass(frozen=True)
class RunRecord:
    """The store's record of a run that trained something.

    Args:
        run_id: Its ID.
        name: As the UI shows it.
        status: As the UI shows it.
        start_ms: Unix time in milliseconds.
        tags: By name.
        metrics: The newest value of each.
        config: The config that was trained.
        config_changes: Fields whose value in the stored config is not the one logged when the run was created.
        fingerprint: Digests of the data, by name.
        environment: Packages, interpreter and machine.
    """

    run_id: str
    name: str
    status: str
    start_ms: int
    tags: dict[str, str]
    metrics: dict[str, float]
    config: ExperimentConfig
    config_changes: tuple[str, ...]
    fingerprint: dict[str, str]
    environment: dict[str, Any]


def load_run(store: Store, run_id: str) -> RunRecord:
    """Reads a run.

    Raises:
        NotFoundError: If there is no such run, or it trained nothing.
        TrackingError: If its files cannot be read.
        ConfigError: If its stored config is not valid.
    """
    try:
        run: Run = store.client.get_run(run_id)
    except MlflowException:
        raise NotFoundError(f"there is no run '{run_id}'; see marsexp leaderboard") from None
    if "marsexp.config_hash" not in run.data.tags:
        raise NotFoundError(
            f"run {run_id} trained nothing (it is a {run.data.tags.get('marsexp.kind', 'foreign run')})"
        )
    config = parse_config(_read_json(store, run_id, "config.json"), where=f"config.json of run {run_id[:12]}")
    logged = run.data.params
    # The data may have been moved between two segments; the fingerprint covers its content.
    settled = {path: str(value) for path, value in config.flat().items() if path != "data.source"}
    changes = tuple(path for path, value in settled.items() if logged.get(path, value) != value)
    if config.config_hash() != run.data.tags["marsexp.config_hash"] and not changes:
        changes = ("config.json",)
    return RunRecord(
        run_id=run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        start_ms=run.info.start_time,
        tags=dict(run.data.tags),
        metrics=dict(run.data.metrics),
        config=config,
        config_changes=changes,
        fingerprint=_read_json(store, run_id, "data_fingerprint.json"),
        environment=_read_json(store, run_id, "environment.json"),
    )


def load_epoch_metrics(store: Store, run_id: str, names: list[str]) -> dict[int, dict[str, float]]:
    """The logged value of each metric at each epoch, by epoch."""
    epochs: dict[int, dict[str, float]] = {}
    for name in names:
        for metric in store.client.get_metric_history(run_id, name):
            epochs.setdefault(metric.step, {})[name] = metric.value
    return dict(sorted(epochs.items()))


def _read_json(store: Store, run_id: str, name: str) -> dict[str, Any]:
    content = read_artifact(store, run_id, name)
    try:
        document: dict[str, Any] = json.loads(content)
    except ValueError as error:
        raise TrackingError(f"run {run_id}: {name} cannot be read ({error})") from None
    return document
