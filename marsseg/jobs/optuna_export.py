"""A search as an Optuna study in a database of its own, which `optuna-dashboard` and Optuna's plots can read.

A copy for viewing: the ledger stays the record, and nothing reads the copy back.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution

from marsseg.errors import TrackingError, UsageError, first_line
from marsseg.jobs.home import Home
from marsseg.jobs.progress import notify
from marsseg.jobs.settings import StudySettings
from marsseg.jobs.stored import stored_settings
from marsseg.search.ledger import Event, Ledger
from marsseg.search.objectives import SCORE
from marsseg.search.optuna_proposer import build_distribution
from marsseg.search.state import Trial, TrialState, replay

_OWNER = "marsexp.uid"
# Every database of Optuna's has this table.
_STUDIES = "studies"
_STATES = {
    TrialState.COMPLETED: optuna.trial.TrialState.COMPLETE,
    TrialState.STOPPED: optuna.trial.TrialState.PRUNED,
    TrialState.FAILED: optuna.trial.TrialState.FAIL,
    TrialState.REJECTED: optuna.trial.TrialState.FAIL,
}


def export_study(home: Home, search: str, url: str) -> str:
    """Writes a search's trials, their scores after each epoch and their runs' IDs to an Optuna database.

    A paused trial may still be resumed and counts as running; one that the search stopped or left behind counts as
    pruned.

    Args:
        home: Where the ledger is.
        search: The search's name.
        url: A database as SQLAlchemy names it, such as `sqlite:///study.db`; created if missing. An earlier
            export of this search is replaced.

    Returns:
        The study's name, the same as the search's.

    Raises:
        NotFoundError: If there is no such search.
        UsageError: If it is a training, the URL is not valid, or the database has another study of that name.
        TrackingError: If the database cannot be written.
    """
    ledger = Ledger(home.ledger)
    settings = stored_settings(ledger, search)
    name = settings.name
    if settings.kind != "search":
        raise UsageError(f"--optuna: expected a search, found '{name}', which is a {settings.kind} without a space")
    events = ledger.events(name)
    trials = replay(events).trials
    distributions = {
        parameter.path: build_distribution(parameter.domain) for parameter in settings.build_space().parameters
    }
    times = _times(events)
    frozen = [
        _frozen_trial(trial, distributions, ledger.epochs(name, trial.number), times[trial.number]) for trial in trials
    ]
    try:
        with _open_storage(url) as storage:
            _new_study(storage, settings).add_trials(frozen)
    # Optuna raises a RuntimeError where another version has written the database.
    except (optuna.exceptions.StorageInternalError, sa.exc.SQLAlchemyError, RuntimeError) as error:
        reason = first_line(error.__cause__ or error)
        raise TrackingError(f"{url}: the study could not be written ({reason})") from None
    notify(f"wrote {len(frozen)} trials to the study '{name}'; view them with: optuna-dashboard {url}")
    return name


@contextmanager
def _open_storage(url: str) -> Iterator[optuna.storages.RDBStorage]:
    """The database until the block ends: Optuna leaves closing its connections to the garbage collector."""
    try:
        found = _anything_else(sa.engine.make_url(url))
        storage = None if found else optuna.storages.RDBStorage(url)
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError, ValueError):
        raise UsageError(f"--optuna: expected a database such as sqlite:///study.db, found '{url}'") from None
    if storage is None:
        raise UsageError(f"--optuna: {url} is {found}; name another database")
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _anything_else(url: sa.URL) -> str:
    """What a database is instead of a place for studies, to which Optuna would add its tables all the same."""
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:"):
            return "kept nowhere"
        if not Path(str(url.database)).exists():
            return ""
    tables = sa.inspect(sa.create_engine(url, poolclass=sa.NullPool)).get_table_names()
    return "" if _STUDIES in tables or not tables else f"something else, with tables {', '.join(sorted(tables)[:3])}, …"


def _new_study(storage: optuna.storages.RDBStorage, settings: StudySettings) -> optuna.Study:
    """An empty study of the search's name; an earlier export of the same search is deleted."""
    name = settings.name
    if name in optuna.get_all_study_names(storage):
        if optuna.load_study(study_name=name, storage=storage).user_attrs.get(_OWNER) != settings.uid:
            raise UsageError(f"--optuna: {storage.url} has another study '{name}'; use another database")
        optuna.delete_study(study_name=name, storage=storage)
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([SCORE])
    about = {_OWNER: settings.uid, "space": settings.space_name, "sampler": settings.sampler, "seed": settings.seed}
    for key, value in about.items():
        study.set_user_attr(key, value)
    return study


def _times(events: Sequence[Event]) -> dict[int, tuple[datetime, datetime]]:
    """When each trial was proposed, and when its last event was written."""
    times: dict[int, tuple[datetime, datetime]] = {}
    for event in events:
        if event.trial is not None:
            now = datetime.fromtimestamp(event.created_ms / 1000)
            times[event.trial] = (times.get(event.trial, (now, now))[0], now)
    return times


def _frozen_trial(
    trial: Trial,
    distributions: Mapping[str, BaseDistribution],
    epochs: Sequence[Mapping[str, Any]],
    times: tuple[datetime, datetime],
) -> optuna.trial.FrozenTrial:
    state = _STATES.get(trial.state, optuna.trial.TrialState.RUNNING)
    attributes = {
        "state": trial.state.value,
        "run_id": trial.run_id,
        "reason": trial.reason,
        "epochs": trial.epochs,
        "best_epoch": trial.best_epoch,
        "params": trial.params,
        "duration_s": trial.duration_s,
    }
    scored = state in (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    frozen = optuna.trial.create_trial(
        state=state,
        value=trial.best_val_mean_iou if scored else None,
        params=dict(trial.values),
        distributions={path: distributions[path] for path in trial.values},
        user_attrs={key: value for key, value in attributes.items() if value not in ("", 0)},
        intermediate_values={record["epoch"]: record["metrics"][SCORE] for record in epochs},
    )
    frozen.datetime_start = times[0]
    frozen.datetime_complete = times[1] if state.is_finished() else None
    return frozen
