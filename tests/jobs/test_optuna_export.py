"""A search exported as an Optuna study, and what optuna-dashboard serves of it."""

import gc
import json
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest

from marsseg.cli.app import main
from marsseg.errors import NotFoundError, TrackingError, UsageError
from marsseg.jobs.home import Home
from marsseg.jobs.optuna_export import export_study
from marsseg.search.state import TrialState
from tests.jobs.toy_study import Killed, Study, build_settings

OpenStorage = Callable[[], optuna.storages.RDBStorage]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = Study(tmp_path_factory.mktemp("finished"))
    study.drive()
    return study


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


@pytest.fixture
def open_storage(url: str) -> Iterator[OpenStorage]:
    """Opens the database; its connections are closed when the test ends."""
    opened: list[optuna.storages.RDBStorage] = []

    def open_it() -> optuna.storages.RDBStorage:
        opened.append(optuna.storages.RDBStorage(url))
        return opened[-1]

    yield open_it
    for storage in opened:
        storage.remove_session()
        storage.engine.dispose()


def test_each_trial_as_the_ledger_has_it(finished: Study, url: str, open_storage: OpenStorage) -> None:
    assert export_study(Home(finished.folder), "toy", url) == "toy"
    study = optuna.load_study(study_name="toy", storage=open_storage())
    trials = finished.state.trials
    assert {trial.state for trial in trials} >= {TrialState.COMPLETED, TrialState.STOPPED, TrialState.FAILED}
    names = {"completed": "COMPLETE", "stopped": "PRUNED", "failed": "FAIL", "rejected": "FAIL"}
    for trial, copy in zip(trials, study.trials, strict=True):
        assert copy.number == trial.number
        assert copy.state.name == names[trial.state.value]
        assert copy.user_attrs["state"] == trial.state.value
        assert copy.params == trial.values
        scores = [record["metrics"]["val_mean_iou"] for record in finished.ledger.epochs("toy", trial.number)]
        assert copy.intermediate_values == dict(enumerate(scores, start=1))
        assert copy.user_attrs.get("reason", "") == trial.reason
        assert copy.value == (None if copy.state.name == "FAIL" else trial.best_val_mean_iou)
        assert copy.datetime_complete >= copy.datetime_start
    completed = [trial for trial in study.best_trials if trial.state.name == "COMPLETE"]
    assert [trial.number for trial in completed] == [finished.state.winner.number]  # type: ignore[union-attr]


def test_written_again_as_it_goes_on_it_is_replaced(tmp_path: Path, url: str, open_storage: OpenStorage) -> None:
    study = Study(tmp_path)
    with suppress(Killed):
        study.drive(20)
    home = Home(study.folder)
    export_study(home, "toy", url)
    before = optuna.load_study(study_name="toy", storage=open_storage()).trials
    going_on = study.state.in_state(TrialState.PAUSED, TrialState.RUNNING)
    assert going_on
    assert {before[trial.number].state.name for trial in going_on} == {"RUNNING"}
    study.drive()
    export_study(home, "toy", url)
    assert optuna.get_all_study_names(open_storage()) == ["toy"]
    after = optuna.load_study(study_name="toy", storage=open_storage()).trials
    assert len(after) > len(before)
    assert all(trial.state.is_finished() for trial in after)


def test_no_connection_is_left_to_the_garbage_collector(finished: Study, tmp_path: Path, url: str) -> None:
    gc.disable()
    try:
        export_study(Home(finished.folder), "toy", url)
        assert str(tmp_path / "study.db") not in [file.path for file in psutil.Process().open_files()]
    finally:
        gc.enable()


def test_somebody_elses_study_is_left_alone(finished: Study, url: str, open_storage: OpenStorage) -> None:
    optuna.create_study(study_name="toy", storage=open_storage()).optimize(
        lambda trial: trial.suggest_float("x", 0, 1), 2
    )
    with pytest.raises(UsageError, match="has another study 'toy'"):
        export_study(Home(finished.folder), "toy", url)
    assert len(optuna.load_study(study_name="toy", storage=open_storage()).trials) == 2


@pytest.mark.parametrize("wrong", ["study.db", "nothing://study.db", ""])
def test_what_is_no_database(finished: Study, wrong: str) -> None:
    with pytest.raises(UsageError, match="expected a database such as sqlite"):
        export_study(Home(finished.folder), "toy", wrong)


def test_a_database_of_something_else_is_left_alone(finished: Study, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("create table experiments (id integer)")
    before = other.read_bytes()
    with pytest.raises(UsageError, match="is something else, with tables experiments"):
        export_study(Home(finished.folder), "toy", f"sqlite:///{other}")
    assert other.read_bytes() == before
    with pytest.raises(UsageError, match="is kept nowhere"):
        export_study(Home(finished.folder), "toy", "sqlite://")


def test_a_database_that_cannot_be_written(finished: Study, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="could not be written"):
        export_study(Home(finished.folder), "toy", f"sqlite:///{tmp_path}/no/such/folder/study.db")


def test_no_such_search_and_a_training(finished: Study, tmp_path: Path, url: str) -> None:
    with pytest.raises(NotFoundError):
        export_study(Home(finished.folder), "other", url)
    training = Study(tmp_path, replace(build_settings(), kind="training", engine="recipes"))
    with pytest.raises(UsageError, match="expected a search"):
        export_study(Home(training.folder), "toy", url)


def ask(address: str) -> Any:
    """The answer of a server that may still be starting."""
    for _ in range(120):
        with suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)
        time.sleep(0.5)
    raise AssertionError(f"{address} does not answer")


def test_the_dashboard_serves_it(
    finished: Study, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MARSEXP_HOME", str(finished.folder))
    monkeypatch.setattr("sys.argv", ["marsexp", "leaderboard", "toy", "--json", "--optuna", url])
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert exit_info.value.code in (0, None)
    captured = capsys.readouterr()
    board = json.loads(captured.out)["trials"]
    assert f"optuna-dashboard {url}" in captured.err
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    script = Path(sys.executable).with_name("optuna-dashboard")
    server = subprocess.Popen([script, url, "--host", "127.0.0.1", "--port", str(port)], stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}/api/studies"
        (summary,) = ask(address)["study_summaries"]
        assert (summary["study_name"], summary["directions"]) == ("toy", ["maximize"])
        served = ask(f"{address}/{summary['study_id']}")
    finally:
        server.terminate()
        server.wait(timeout=30)
    assert len(served["trials"]) == len(board)
    by_number = {row["trial"]: row for row in board}
    for trial in served["trials"]:
        row = by_number[trial["number"]]
        assert {parameter["name"] for parameter in trial["params"]} == set(row["values"])
        assert len(trial["intermediate_values"]) == row["epochs"]
        if row["state"] == "completed":
            assert trial["state"] == "Complete"
            assert trial["values"] == [row["best_val_mean_iou"]]
