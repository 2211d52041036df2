"""The doctor: right about a sound machine, one line for each problem, and it never changes anything."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from marsseg.config import ExperimentConfig
from marsseg.errors import TrainingError, UsageError
from marsseg.jobs.checks import Check, attempt, check_data, check_gpus, check_home, check_server, check_software
from marsseg.jobs.doctor import render_examination
from marsseg.jobs.first_steps import train_first_steps
from marsseg.jobs.home import Home
from marsseg.training.precision import choose_precision
from marsseg.training.runtime import resolve_auto, this_machine
from tests.conftest import Done, Marsexp, make_marsexp, write_tiles

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "doctor.json").read_text(encoding="utf-8"))


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run(marsexp: Marsexp, *arguments: str, **environment: str) -> Done:
    done = subprocess.run(
        marsexp.command("doctor", *arguments),
        cwd=marsexp.folder,
        env={**marsexp.environment, **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def by_name(document: dict[str, Any]) -> dict[str, Any]:
    return {check["name"]: check for check in document["checks"]}


def files(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def state_of(checks: list[Check], name: str) -> str:
    return next(check.state for check in checks if check.name == name)


def test_sound_machine(finished_search: Marsexp, leaderboard: dict[str, Any]) -> None:
    before = files(finished_search.folder)
    done = run(finished_search, "--json", MARSEXP_DATA="tiles.npz")
    assert files(finished_search.folder) == before
    assert done.status == 0, done.stdout + done.stderr
    document = done.json()
    jsonschema.validate(document, SCHEMA)
    checks = by_name(document)
    assert checks["ledger"]["facts"]["entries"] == 1
    trials = [trial for trial in leaderboard["trials"] if trial["state"] != "rejected"]
    assert checks["MLflow store"]["facts"]["entries"] == 1 + len(trials)
    assert checks["MARSEXP_DATA"]["facts"]["images"] == 40
    assert checks["Optuna"]["facts"]["version"].startswith("5.")
    expected = resolve_auto(ExperimentConfig()).training
    choice = choose_precision(this_machine())
    assert checks["precision"]["found"] == str(choice)
    assert checks["precision"]["facts"]["precision"] == choice.precision == expected.precision
    assert checks["threads"]["facts"]["threads"] == expected.threads
    worker = checks["worker"]["facts"]
    assert worker["steps"] == 4
    assert 0 < worker["import_s"] < 60
    assert 0 < worker["step_ms"] / 1000 < worker["first_step_s"]


def test_troubles_are_told_together_and_end_with_status_1(tmp_path: Path) -> None:
    marsexp = make_marsexp(tmp_path)
    marsexp.home.mkdir()
    (marsexp.home / "ledger.db").write_text("this was a database once " * 100, encoding="utf-8")
    broken = marsexp.folder / "broken"
    broken.mkdir()
    (broken / "tensorflow.py").write_text("raise ImportError('libtensorflow is for another processor')")
    before = files(marsexp.folder)
    path = os.pathsep.join([str(broken), os.environ.get("PYTHONPATH", "")])
    done = run(marsexp, MARSEXP_DATA="absent.npz", MLFLOW_TRACKING_URI="http://127.0.0.1:9", PYTHONPATH=path)
    assert done.status == 1
    assert {key: value for key, value in files(marsexp.folder).items() if "__pycache__" not in key.parts} == {
        **before,
        broken: files(marsexp.folder)[broken],
    }
    assert "Traceback" not in done.stdout + done.stderr
    lines = done.stdout.splitlines()
    for name, words in {
        "ledger": "file is not a database",
        "tracking URI": "http://127.0.0.1:9 does not answer ([Errno 111] Connection refused)",
        "MARSEXP_DATA": "absent.npz: expected a .npz file, found nothing there",
        "worker": "ImportError: libtensorflow is for another processor",
    }.items():
        (number,) = [number for number, line in enumerate(lines) if line.startswith(f"  problem  {name} ")]
        assert words in lines[number]
        assert lines[number + 1].strip().startswith("-> ")
    assert lines[-1] == "4 problems"


def test_home_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    home = Home(tmp_path / "not" / "yet")
    checks = check_home(home)
    assert {check.state for check in checks} == {"ok"}
    assert "not there yet" in checks[0].found
    assert list(tmp_path.iterdir()) == []


def test_home_in_the_way_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert state_of(check_home(Home(tmp_path / "file")), "home") == "problem"
    assert state_of(check_home(Home(tmp_path / "file" / "below")), "home") == "problem"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_home_that_may_not_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert state_of(check_home(Home(tmp_path / "home")), "home") == "problem"
    tmp_path.chmod(0o700)


def test_ledger_torn_in_the_middle(copied_search: Marsexp) -> None:
    path = copied_search.home / "ledger.db"
    content = bytearray(path.read_bytes())
    content[4096:12288] = b"\xff" * 8192
    path.write_bytes(content)
    assert state_of(check_home(Home(copied_search.home)), "ledger") == "problem"


def test_ledger_whose_write_was_cut_off_is_left_for_the_next_command(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    write = (
        "import os, sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('PRAGMA cache_size = 2')\n"
        "connection.execute('CREATE TABLE searches (name)')\n"
        "connection.execute('BEGIN')\n"
        "connection.executemany('INSERT INTO searches VALUES (?)', [('x' * 1000,)] * 2000)\n"
        "os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", write, str(path)], check=False)
    before = files(tmp_path)
    assert path.with_name("ledger.db-journal") in before
    assert state_of(check_home(Home(tmp_path)), "ledger") == "warning"
    assert files(tmp_path) == before


def test_ledger_that_is_being_written_to(copied_search: Marsexp) -> None:
    connection = sqlite3.connect(copied_search.home / "ledger.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        (check,) = [check for check in check_home(Home(copied_search.home)) if check.name == "ledger"]
    finally:
        connection.close()
    assert (check.state, check.found) == ("warning", "another process is writing")


def test_database_without_tables_holds_nothing_yet(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").touch()
    assert state_of(check_home(Home(tmp_path)), "ledger") == "warning"


def test_tracking_uri_of_a_database_file(copied_search: Marsexp) -> None:
    before = files(copied_search.home)
    assert check_server(f"sqlite:///{copied_search.home / 'mlflow.db'}").state == "ok"
    assert check_server("postgresql://nobody@127.0.0.1/none").state == "warning"
    assert files(copied_search.home) == before


def test_server_that_answers(finished_search: Marsexp, free_port: int) -> None:
    server = subprocess.Popen(
        finished_search.command("ui", "--port", str(free_port)),
        cwd=finished_search.folder,
        env=finished_search.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("http://")
        environment = dict(os.environ)
        assert check_server(f"http://127.0.0.1:{free_port}").state == "ok"
        assert dict(os.environ) == environment
        assert check_server(f"http://127.0.0.1:{free_port}/elsewhere").state == "problem"
    finally:
        server.terminate()
        server.communicate(timeout=30)


def test_data(tmp_path: Path) -> None:
    assert check_data(None).state == "ok"
    assert check_data("synthetic").state == "ok"
    assert check_data(str(write_tiles(tmp_path / "tiles.npz", 3))).facts["images"] == 3
    (tmp_path / "text.npz").write_text("not an archive")
    assert check_data(str(tmp_path / "text.npz")).state == "problem"


def test_versions_against_what_the_package_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "marsexp-0.dist-info"
    info.mkdir()
    asks = ("optuna<4", "keras>=3", "absent-package>=1", "never; python_version < '3'")
    lines = ["Metadata-Version: 2.1", "Name: marsexp", "Version: 0", *(f"Requires-Dist: {text}" for text in asks)]
    (info / "METADATA").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    checks = {check.name: check for check in check_software()}
    assert checks["Optuna"].state == "problem"
    assert checks["Optuna"].found.endswith("expected <4")
    assert checks["Keras"].state == "ok"
    assert checks["absent-package"].advice == "python -m pip install 'absent-package>=1'"
    assert "never" not in checks


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("import os; print('no such instruction', flush=True); os.abort()", "signal 6; it last wrote: no such"),
        ("import time; time.sleep(60)", "no step was done within 4 s"),
    ],
)
def test_worker_that_cannot_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, words: str) -> None:
    (tmp_path / "tensorflow.py").write_text(module, encoding="utf-8")
    # The worker, a new process, imports this module instead of the real one.
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(TrainingError, match=words):
        train_first_steps(resolve_auto(ExperimentConfig()), 4)


def test_gpu_that_tensorflow_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_gpus(("NVIDIA H100",)).found == "NVIDIA H100"
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    check = check_gpus(())
    assert check.state == "warning"
    assert "tensorflow[and-cuda]" in check.advice


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (UsageError("expected a path without '%'"), "expected a path without '%'"),
        (PermissionError(13, "Permission denied", "/far"), "[Errno 13] Permission denied: '/far'"),
        (ValueError("first\nsecond"), "unexpected ValueError: first"),
    ],
)
def test_look_that_fails_is_an_answer(error: Exception, found: str) -> None:
    def look() -> list[Check]:
        raise error

    (check,) = attempt("storage", "home", look)
    assert (check.state, check.found) == ("problem", found)
    assert check.advice


def test_text_is_aligned_and_counts() -> None:
    checks = [
        {"topic": "a", "name": "one", "state": "ok", "found": "fine", "advice": ""},
        {"topic": "b", "name": "longer", "state": "warning", "found": "odd", "advice": "look"},
    ]
    assert render_examination({"checks": checks}).splitlines() == [
        "a",
        "  ok       one     fine",
        "b",
        "  warning  longer  odd",
        "                   -> look",
        "",
        "1 warning",
    ]
