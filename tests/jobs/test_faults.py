"""A real search whose trials fail, each in its own way: it continues, and says at the end what happened."""

import re
import resource
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from marsseg.jobs.home import Home
from marsseg.search.ledger import Ledger
from marsseg.search.state import Trial, TrialState, replay
from tests.conftest import TINY_SPACE, Done, Marsexp, workers_of, write_tiles

FIXED = re.sub(r"\[parameters.*", "", TINY_SPACE, flags=re.DOTALL)
# Four configurations: one is good, one has weights that overflow at once, one has kernels that would take 150 GB, and
# the last one has its worker killed again and again.
GOOD, TOO_LARGE, KILLED = 4, 65536, 8
FAULTY_SPACE = f"""
{FIXED.replace('"model.max_filters" = 8', '"model.max_filters" = 65536')}
[parameters."model.base_filters"]
kind = "choice"
options = [{GOOD}, {KILLED}, {TOO_LARGE}]

[parameters."optimizer.learning_rate"]
kind = "choice"
options = [1e-3, 1e30]
when = {{ "model.base_filters" = [{GOOD}] }}
"""
MEMORY = 100 * 2**30


def trials(marsexp: Marsexp) -> tuple[Trial, ...]:
    ledger = Ledger(marsexp.home / "ledger.db")
    return replay(ledger.events("faulty")).trials if ledger.names() else ()


def kill_workers_of_one_trial(marsexp: Marsexp, driver: subprocess.Popen[str]) -> None:
    """Kills them each time they have begun the trial: a worker that dies before that may be replaced."""
    log, kills = Home(marsexp.home).log("study-faulty"), 0
    while driver.poll() is None:
        doomed = [trial.number for trial in trials(marsexp) if trial.values["model.base_filters"] == KILLED]
        begun = [f"trial-{number:05d} to epoch" for number in doomed]
        text = log.read_text(encoding="utf-8") if log.exists() else ""
        if sum(text.count(line) for line in begun) > kills:
            kills += 1
            for worker in workers_of(driver.pid):
                with suppress(psutil.NoSuchProcess):
                    worker.kill()
        time.sleep(0.1)


@pytest.fixture(scope="module")
def faulty_search(tmp_path_factory: pytest.TempPathFactory) -> tuple[Marsexp, Done]:
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "space.toml").write_text(FAULTY_SPACE, encoding="utf-8")
    write_tiles(folder / "tiles.npz")
    marsexp = Marsexp(folder, folder / "home")
    command = marsexp.command(
        *("search", "--budget", "4", "--space", "space.toml", "--data", "tiles.npz", "--name", "faulty"),
        *("--workers", "1"),
        *("--sampler", "random", "--max-epochs", "2"),
    )
    with (folder / "stdout").open("w+") as stdout, (folder / "stderr").open("w+") as stderr:
        driver = subprocess.Popen(
            command,
            cwd=folder,
            env=marsexp.environment,
            stdout=stdout,
            stderr=stderr,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
        )
        kill_workers_of_one_trial(marsexp, driver)
    texts = [Path(folder / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
    return marsexp, Done(driver.returncode, *texts)


def test_a_search_with_faults_completes_and_its_summary_names_them(faulty_search: tuple[Marsexp, Done]) -> None:
    marsexp, done = faulty_search
    assert done.status == 0, done.stderr
    assert "Traceback" not in done.stderr
    document = marsexp("leaderboard", "--json").json()
    reasons = {}
    for trial in document["trials"]:
        if trial["state"] not in ("completed", "rejected"):
            assert trial["state"] == "failed"
            values = trial["values"]
            reasons[values["model.base_filters"], values.get("optimizer.learning_rate")] = trial["reason"]
            assert trial["reason"] in re.sub(r"\s+", " ", done.stdout)
            assert f"trial {trial['trial']} failed: {trial['reason']}" in done.stderr
    assert set(reasons) == {(GOOD, 1e30), (TOO_LARGE, None), (KILLED, None)}
    assert "became nan" in reasons[GOOD, 1e30]
    assert reasons[TOO_LARGE, None].startswith("memory ran out: OOM when allocating tensor with shape[3,3,65536,65536]")
    assert "signal 9" in reasons[KILLED, None]


def test_what_has_failed_is_failed_in_the_tracking_store_too(faulty_search: tuple[Marsexp, Done]) -> None:
    from marsseg.tracking.store import open_store

    store = open_store(faulty_search[0].home)
    runs = store.client.search_runs([store.experiment_id], "tags.`marsexp.kind` = 'trial'")
    assert sorted(run.info.status for run in runs) == ["FAILED", "FAILED", "FAILED", "FINISHED"]
    for run in runs:
        assert ("marsexp.reason" in run.data.tags) == (run.info.status == "FAILED")
    assert not list((faulty_search[0].home / "checkpoints").rglob("*.safetensors"))


def test_a_search_whose_workers_cannot_begin_stops_before_a_trial_fails(marsexp: Marsexp) -> None:
    write_tiles(marsexp.folder / "tiles.npz")
    broken = marsexp.folder / "broken" / "tensorflow"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('no library of that name')", encoding="utf-8")
    done = subprocess.run(
        marsexp.command("search", "--budget", "4", "--space", "space.toml", "--data", "tiles.npz", "--name", "faulty"),
        cwd=marsexp.folder,
        env={**marsexp.environment, "PYTHONPATH": str(broken.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "4 worker processes in a row ended before they could begin, the last one with status 1" in done.stderr
    found = re.search("status 1: see (.*); once that is fixed, (.*)", done.stderr)
    assert found is not None, done.stderr
    assert "ImportError: no library of that name" in Path(found[1]).read_text(encoding="utf-8")
    assert found[2] == "resume with: marsexp search --resume faulty"
    assert not [trial for trial in trials(marsexp) if trial.state is TrialState.FAILED]
    from marsseg.tracking.store import open_store

    store = open_store(marsexp.home)
    (of_search,) = store.client.search_runs([store.experiment_id])
    assert of_search.info.status == "FAILED", "none is shown as if it still ran"
