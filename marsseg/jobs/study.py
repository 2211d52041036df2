"""Runs a study, a search or a training of recipes, from its settings to its last artifact; and resumes one."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marsseg.data.prepare import PreparedData, changed_parts
from marsseg.errors import DataError, MarsexpError, TakenOverError, TrackingError, TrainingError, UsageError, first_line
from marsseg.jobs.admission import Admission
from marsseg.jobs.candidates import build_candidates
from marsseg.jobs.data_size import DataSize
from marsseg.jobs.devices import worker_environments
from marsseg.jobs.driver import Driver
from marsseg.jobs.forecast import Forecasting, expected_spending
from marsseg.jobs.home import Home
from marsseg.jobs.interrupts import deferred_interrupts
from marsseg.jobs.leaderboard import leaderboard_document
from marsseg.jobs.progress import notify, show_progress
from marsseg.jobs.settings import StudySettings
from marsseg.jobs.standing import Standing, in_words
from marsseg.jobs.worker import FINAL_KINDS, serve
from marsseg.search.budget import Budget
from marsseg.search.executor import LocalExecutor
from marsseg.search.ledger import Ledger, LedgerWriter
from marsseg.search.state import SearchState, TrialState, replay

if TYPE_CHECKING:
    from marsseg.jobs.tracker import StudyTracker


def create_study(home: Home, settings: StudySettings, data: PreparedData) -> dict[str, Any]:
    """Starts a study and runs it to its end.

    Args:
        home: Where everything is kept.
        settings: The study's.
        data: The data that trials will train on.

    Returns:
        Its leaderboard document.

    Raises:
        UsageError: If the name is taken, here or on the settings' server.
        TrackingError: If the settings' server does not answer; the name is not taken then.
        MarsexpError: If something stops the study; it can be resumed.
    """
    settings = _settle_store(home, settings, is_new=True)
    ledger = Ledger(home.ledger)
    with _interruptible(ledger, settings) as interruption:
        ledger.create_search(settings.name, settings.to_dict())
        with ledger.drive(settings.name) as writer:
            # A study of this name in a ledger that was lost may have left some.
            shutil.rmtree(home.checkpoints(settings.name), ignore_errors=True)
            return _run(home, ledger, writer, settings, data, interruption)


def resume_study(
    home: Home, settings: StudySettings, data: PreparedData, budget: Budget | None = None
) -> dict[str, Any]:
    """Resumes a study, or extends a finished one.

    Args:
        home: Where everything is kept.
        settings: As stored, apart from where the data is and which server records.
        data: The data that trials train on; must be the same as at the start.
        budget: A larger budget, or None.

    Returns:
        Its leaderboard document.

    Raises:
        DataError: If the data has changed.
        UsageError: If the budget is smaller than before.
        LedgerError: If another process runs the study.
        TrackingError: If the settings' server does not answer.
    """
    settings = _settle_store(home, settings, is_new=False)
    changed = changed_parts(dict(settings.fingerprint), data.fingerprint.to_dict())
    if changed:
        raise DataError(f"the data is not what '{settings.name}' was started with; changed: {', '.join(changed)}")
    if budget is not None and not budget.covers(settings.budget):
        raise UsageError(f"--budget: expected at least {settings.budget}, which '{settings.name}' has, found {budget}")
    extended = budget is not None and budget != settings.budget
    if budget is not None:
        settings = replace(settings, budget=budget)
        settings = replace(settings, plan=expected_spending(settings, DataSize.of(data)))
    ledger = Ledger(home.ledger)
    with _interruptible(ledger, settings) as interruption, ledger.drive(settings.name) as writer:
        # First, so that a kill in between leaves a search that is open.
        if extended:
            writer.append("opened")
        writer.update_settings(settings.to_dict())
        return _run(home, ledger, writer, settings, data, interruption)


def _run(
    home: Home,
    ledger: Ledger,
    writer: LedgerWriter,
    settings: StudySettings,
    data: PreparedData,
    interruption: threading.Event,
) -> dict[str, Any]:
    log = home.log(f"study-{settings.name}")
    candidates = build_candidates(settings)
    size = DataSize.of(data)
    state = replay(ledger.events(settings.name))
    environments = worker_environments(settings.workers, settings.gpus)
    with closing(LocalExecutor(serve, settings.workers, FINAL_KINDS, environments)) as executor:
        forecasting = None if state.trials else Forecasting(executor, settings, candidates, size, log)
        _stop_if(interruption)
        # MLflow takes seconds to import: every rejection comes before that, and workers import TensorFlow meanwhile.
        from marsseg.jobs.tracker import StudyTracker
        from marsseg.tracking.recorder import Recorder
        from marsseg.tracking.store import open_store

        _stop_if(interruption)
        tracker = StudyTracker(
            settings,
            config_of=lambda trial: candidates.config(trial.values),
            ledger=ledger,
            writer=writer,
            home=home,
            open_recorder=lambda: Recorder(open_store(home.path, settings.tracking_uri)),
            profile={"images": len(data.images), "num_classes": data.num_classes},
        )
        cut_off = [trial.number for trial in state.in_state(TrialState.RUNNING)]
        records = {number: ledger.epochs(settings.name, number) for number in cut_off}
        driver = Driver(
            settings=settings,
            candidates=candidates,
            admission=Admission(candidates, settings.filters, size, settings.sizes),
            scheduler=settings.build_scheduler(),
            writer=writer,
            executor=executor,
            observers=[tracker],
            home=home,
            state=state,
            epochs={number: len(known) for number, known in records.items()},
            in_order=settings.in_modelled_order,
            should_stop=interruption.is_set,
        )
        standing = Standing(settings, state, records)
        with _saying_how_to_resume(settings, log, driver, tracker):
            _drive(driver, tracker, standing, forecasting)
            return _conclude(home, ledger, settings, data, tracker, interruption)


def _drive(driver: Driver, tracker: "StudyTracker", standing: Standing, forecasting: Forecasting | None) -> None:
    was_over = driver.state.closed
    tracker.catch_up(driver.state)
    if forecasting is not None:
        standing.forecast = forecasting.result(driver.should_stop)
        _announce(standing)
    with show_progress(standing) as progress:
        driver.observers.insert(0, progress)
        state = driver.run()
    if state.gave_up and not was_over:
        last = state.in_state(TrialState.REJECTED)[-1]
        notify(f"gave up after {state.rejected_in_a_row} rejected proposals (the last one: {last.reason})")


@contextmanager
def _interruptible(ledger: Ledger, settings: StudySettings) -> Iterator[threading.Event]:
    """Lets a study stop where it checks for it, and says how to resume it."""
    try:
        with deferred_interrupts() as interruption:
            yield interruption
    except KeyboardInterrupt:
        if settings.name in ledger.names():
            notify(f"stopped; {settings.resume_hint}")
        raise


@contextmanager
def _saying_how_to_resume(
    settings: StudySettings, log: Path, driver: Driver, tracker: "StudyTracker"
) -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except KeyboardInterrupt:
        tracker.leave(driver.state, "KILLED")
        raise
    except TakenOverError:
        raise
    except (MlflowException, SQLAlchemyError) as error:
        # MLflow lets errors of SQLAlchemy through; the ledger has everything.
        message = f"'{settings.name}' could not be recorded ({first_line(error)}); {settings.resume_hint}"
        raise TrackingError(message) from error
    except MarsexpError as error:
        if not isinstance(error, TrackingError):
            tracker.leave(driver.state, "FAILED")
        see = f": see {log}" if isinstance(error, TrainingError) else ""
        raise type(error)(f"{error}{see}; once that is fixed, {settings.resume_hint}") from error
    except Exception:
        tracker.leave(driver.state, "FAILED")
        notify(f"stopped by an error; {settings.resume_hint}")
        raise


def _settle_store(home: Home, settings: StudySettings, is_new: bool) -> StudySettings:
    """Detects a server that is unreachable or mistyped, or where the name is taken, before anything is written.

    An address of the embedded store is dropped: it changes when the folder is moved.
    """
    settings = replace(settings, tracking_uri=home.server(settings.tracking_uri))
    if settings.tracking_uri:
        from marsseg.tracking.store import open_store
        from marsseg.tracking.view import viewed_searches

        store = open_store(home.path, settings.tracking_uri)
        # Two searches of one name would share a view. The name of a confirmation is not the user's to choose.
        is_named = is_new and not settings.confirms
        if is_named and settings.name in viewed_searches(store.client.get_experiment(store.experiment_id).tags):
            raise UsageError(f"'{settings.name}' exists already on {settings.tracking_uri}; choose another --name")
    return settings


def _announce(standing: Standing) -> None:
    """Announces how long the study is expected to take, before anything is trained."""
    if standing.forecast is None or standing.seconds_left is None:
        notify("how long this will take is not known: no step could be timed")
        return
    line = f"expected to take about {in_words(standing.seconds_left)}"
    if standing.settings.kind == "search" and standing.full_training_s is not None:
        line += f"; full training of all would take about {in_words(standing.full_training_s)}"
    notify(line)


def _conclude(
    home: Home,
    ledger: Ledger,
    settings: StudySettings,
    data: PreparedData,
    tracker: "StudyTracker",
    interruption: threading.Event,
) -> dict[str, Any]:
    from marsseg.jobs.study_report import log_models, log_study_report

    notify("recording models, figures and the leaderboard")
    state = replay(ledger.events(settings.name))
    tracker.catch_up(state)
    state = replay(ledger.events(settings.name))
    _stop_if(interruption)
    log_models(home, settings, state, data.images.shape[1:3], data.num_classes, tracker.recorder)
    _stop_if(interruption)
    document = leaderboard_document(settings, state)
    if state.run_id:
        histories = {
            trial.number: [record["metrics"]["val_mean_iou"] for record in ledger.epochs(settings.name, trial.number)]
            for trial in state.trials
            if trial.state is not TrialState.REJECTED
        }
        log_study_report(settings, state, document, histories, tracker.recorder)
    _drop_checkpoints(home.checkpoints(settings.name), state)
    return document


def _stop_if(interruption: threading.Event) -> None:
    if interruption.is_set():
        raise KeyboardInterrupt


def _drop_checkpoints(folder: Path, state: SearchState) -> None:
    """Frees the disk: completed trials have their weights in the tracking store, the others could be trained again."""
    if state.closed:
        shutil.rmtree(folder, ignore_errors=True)
