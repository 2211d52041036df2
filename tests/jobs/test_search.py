"""A real search, end to end: its leaderboard, its runs, its moved folder, and resuming after a kill."""

import json
import os
import re
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from marsseg.jobs.home import Home
from marsseg.jobs.stored import load_settings
from marsseg.search.ledger import Ledger
from tests.conftest import TINY_SEARCH, Marsexp, WaitFor, make_marsexp, workers_of, write_tiles

SEARCH = ("search", "--budget", "4", "--space", "space.toml", "--data", "tiles.npz", "--name", "s", "--seed", "3")
SEARCH += ("--workers", "1")


def comparable(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The trials of a leaderboard without what may differ: run IDs and durations."""
    return [{k: v for k, v in trial.items() if k not in ("run_id", "duration_s")} for trial in document["trials"]]


def test_leaderboard_accounts_for_every_configuration(leaderboard: dict[str, Any]) -> None:
    trials = leaderboard["trials"]
    assert leaderboard["search"] == "tiny"
    assert leaderboard["budget"] == 5
    assert len([trial for trial in trials if trial["state"] != "rejected"]) == 5
    assert [trial["rank"] for trial in trials] == list(range(1, len(trials) + 1))
    completed = [trial for trial in trials if trial["state"] == "completed"]
    assert trials[: len(completed)] == completed
    scores = [trial["best_val_mean_iou"] for trial in completed]
    assert scores == sorted(scores, reverse=True)
    assert all(trial["epochs"] == 4 for trial in completed)
    assert leaderboard["epochs_spent"] == sum(trial["epochs"] for trial in trials)
    for trial in trials:
        has_decay = "optimizer.weight_decay" in trial["values"]
        assert has_decay == (trial["values"]["optimizer.name"] == "adamw")


def test_every_trial_is_one_finished_run_below_the_search(
    finished_search: Marsexp, leaderboard: dict[str, Any]
) -> None:
    from marsseg.tracking.store import open_store

    store = open_store(finished_search.home)
    runs = store.client.search_runs([store.experiment_id], "tags.`marsexp.kind` = 'trial'")
    started = [trial for trial in leaderboard["trials"] if trial["state"] != "rejected"]
    assert {run.info.run_id for run in runs} == {trial["run_id"] for trial in started}
    by_id = {run.info.run_id: run for run in runs}
    for trial in started:
        run = by_id[trial["run_id"]]
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == leaderboard["search_run_id"]
        assert run.data.tags["team"] == "red"
        assert run.data.tags["mlflow.user"] == "Ada"
        assert run.data.metrics["best_val_mean_iou"] == trial["best_val_mean_iou"]
        assert len(store.client.get_metric_history(run.info.run_id, "val_mean_iou")) == trial["epochs"]
        names = {file.path for file in store.client.list_artifacts(run.info.run_id)}
        assert {"config.toml", "learning_curve.png", "confusion_matrix.png", "samples.png"} <= names
    parent = store.client.get_run(leaderboard["search_run_id"])
    assert parent.info.status == "FINISHED"
    files = {file.path for file in store.client.list_artifacts(parent.info.run_id)}
    assert {
        "space.toml",
        "leaderboard.csv",
        "leaderboard.html",
        "scores.png",
        "budget.png",
        "parallel_coordinates.png",
    } <= files


def test_winner_is_a_logged_model_that_loads_without_our_package(
    finished_search: Marsexp, leaderboard: dict[str, Any], tmp_path: Path
) -> None:
    from marsseg.tracking.store import open_store

    store = open_store(finished_search.home)
    run = store.client.get_run(leaderboard["trials"][0]["run_id"])
    (output,) = run.outputs.model_outputs
    location = store.client.get_logged_model(output.model_id).artifact_location
    weights = store.client.download_artifacts(run.info.run_id, "best_weights.safetensors", str(tmp_path))
    script = (
        "import sys; sys.modules['marsseg'] = None\n"
        "import mlflow.keras, mlflow.pyfunc, numpy as np, safetensors.numpy\n"
        "images = np.random.default_rng(0).random((2, 32, 64, 1), 'float32')\n"
        f"model = mlflow.keras.load_model({location!r})\n"
        "logits = model.predict(images, verbose=0)\n"
        f"assert np.array_equal(logits, mlflow.pyfunc.load_model({location!r}).predict(images))\n"
        "print(logits.shape)\n"
        f"best = safetensors.numpy.load_file({weights!r})\n"
        "assert all(np.array_equal(weight.numpy(), best[weight.path]) for weight in model.weights)\n"
        "print(len(model.weights) == len(best))\n"
    )
    import sys

    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-2:] == ["(2, 32, 64, 5)", "True"], done.stderr


def test_store_still_works_where_its_folder_is_copied_to(copied_search: Marsexp, leaderboard: dict[str, Any]) -> None:
    from marsseg.tracking.store import open_store

    # The same store, as MLflow's own examples would name it.
    shown = copied_search("show", "best", "--json", "--tracking-uri", "sqlite:///home/mlflow.db")
    assert shown.status == 0, shown.stderr
    who_and_why = [shown.json()[name] for name in ("author", "note", "own_tags")]
    assert who_and_why == ["Ada", "a test", {"team": "red"}]
    store = open_store(copied_search.home)
    run = store.client.get_run(leaderboard["trials"][0]["run_id"])
    assert run.info.artifact_uri.startswith(copied_search.home.as_uri())


def test_keras_tuner_searches_too_and_says_no_more_than_the_other_engine(marsexp: Marsexp) -> None:
    write_tiles(marsexp.folder / "tiles.npz")
    done = marsexp(
        *("search", "--budget", "2", "--engine", "keras-tuner", "--space", "space.toml", "--data", "tiles.npz"),
        *("--max-epochs", "1", "--workers", "1", "--name", "keras", "--json"),
    )
    assert done.status == 0, done.stderr
    assert [trial["state"] for trial in done.json()["trials"]] == ["completed"] * 2
    starts = ("search 'keras'", "expected to take about", "[1/2]", "[2/2]", "left out", "recording")
    lines = done.stderr.splitlines()
    assert [line for line in lines if not line.startswith(starts)] == []
    assert [start for start in starts[:2] if not any(line.startswith(start) for line in lines)] == []


def test_a_space_with_nothing_new_ends_a_search_and_says_so(marsexp: Marsexp) -> None:
    write_tiles(marsexp.folder / "tiles.npz")
    pinned = ("model.num_blocks=2", "model.base_filters=4", "loss.terms=dice", "optimizer.name=adam")
    settings = [word for value in pinned for word in ("--set", value)]
    done = marsexp(*SEARCH, "--max-epochs", "1", *settings)
    assert done.status == 0, done.stderr
    assert "gave up after 200 rejected proposals (the last one: the same as trial" in done.stderr
    assert "2 completed" in done.stdout


def test_taken_name_is_refused(copied_search: Marsexp) -> None:
    done = copied_search(*SEARCH[:5], "--data", "tiles.npz", "--name", "tiny")
    assert (done.status, done.stdout) == (2, "")
    assert "--resume tiny" in done.stderr


def test_finished_search_is_extended_and_goes_on_when_its_store_breaks_and_is_mended(
    copied_search: Marsexp, leaderboard: dict[str, Any]
) -> None:
    def rename(table: str, to: str) -> None:
        with closing(sqlite3.connect(copied_search.home / "mlflow.db")) as connection:
            connection.execute(f"alter table {table} rename to {to}")

    rename("latest_metrics", "lost")
    broken = copied_search("search", "--resume", "tiny", "--budget", "6")
    assert broken.status == 1
    assert "Traceback" not in broken.stderr
    assert re.search(r"'tiny' could not be recorded \(.*latest_metrics.*\); resume with: marsexp search", broken.stderr)
    rename("lost", "latest_metrics")
    mended = copied_search("search", "--resume", "tiny", "--json")
    assert mended.status == 0, mended.stderr
    extended = mended.json()
    started = [trial for trial in extended["trials"] if trial["state"] != "rejected"]
    assert len(started) == 6
    before = {trial["trial"]: trial["best_val_mean_iou"] for trial in leaderboard["trials"]}
    assert before.items() <= {trial["trial"]: trial["best_val_mean_iou"] for trial in started}.items()


def test_other_data_is_refused_on_resume(copied_search: Marsexp) -> None:
    write_tiles(copied_search.folder / "other.npz", seed=1)
    done = copied_search("search", "--resume", "tiny", "--budget", "6", "--data", "other.npz")
    assert done.status == 1
    assert "changed: pixels, masks" in done.stderr


def epochs_in_ledger(home: Path) -> int:
    if not (home / "ledger.db").exists():
        return 0
    with closing(sqlite3.connect(home / "ledger.db")) as connection:
        try:
            return int(connection.execute("select count(*) from epochs").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def start(marsexp: Marsexp, *arguments: str, shown_on: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """Starts the command in its own session."""
    return subprocess.Popen(
        marsexp.command(*arguments),
        cwd=marsexp.folder,
        env=marsexp.environment,
        stdout=subprocess.DEVNULL,
        stderr=shown_on,
        text=True,
        start_new_session=True,
        # If the tests run under nohup, SIGHUP would otherwise be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )


def test_a_search_and_its_workers_are_killed_and_the_leaderboard_is_the_undisturbed_ones(
    finished_search: Marsexp, leaderboard: dict[str, Any], marsexp: Marsexp, wait_for: WaitFor
) -> None:
    (marsexp.folder / "tiles.npz").write_bytes((finished_search.folder / "tiles.npz").read_bytes())
    process = start(marsexp, *TINY_SEARCH)
    for epochs_before_kill, tears_checkpoints in ((2, False), (4, True)):
        wait_for(lambda enough=epochs_before_kill: epochs_in_ledger(marsexp.home) >= enough)
        # Kills the driver and its worker at once, whatever they are doing.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if tears_checkpoints:
            for file in (marsexp.home / "checkpoints").rglob("*.safetensors"):
                os.truncate(file, file.stat().st_size // 2)
        unfinished = marsexp("leaderboard", "--json").json()
        assert unfinished["epochs_spent"] < leaderboard["epochs_spent"]
        process = start(marsexp, "search", "--resume", "tiny")
    wait_for(lambda: epochs_in_ledger(marsexp.home) >= 6)
    (worker,) = workers_of(process.pid)
    worker.kill()
    _, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    assert comparable(marsexp("leaderboard", "--json").json()) == comparable(leaderboard)


def test_interrupted_search_says_how_to_go_on(marsexp: Marsexp, wait_for: WaitFor) -> None:
    write_tiles(marsexp.folder / "tiles.npz")
    # Left by a search of the same name whose ledger was lost.
    left_behind = Home(marsexp.home).checkpoints("s") / "old"
    left_behind.mkdir(parents=True)
    process = start(marsexp, *SEARCH)
    wait_for(lambda: epochs_in_ledger(marsexp.home) >= 1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert not left_behind.exists()
    assert "marsexp search --resume s" in stderr
    assert "Traceback" not in stderr
    states = {trial["state"] for trial in marsexp("leaderboard", "--json").json()["trials"]}
    assert "paused" in states
    assert "running" not in states


def test_a_search_that_is_interrupted_at_once_says_how_to_go_on_too(marsexp: Marsexp, wait_for: WaitFor) -> None:
    write_tiles(marsexp.folder / "tiles.npz")
    process = start(marsexp, *SEARCH)
    wait_for(lambda: Ledger(Home(marsexp.home).ledger).names() == ["s"])
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "stopped; resume with: marsexp search --resume s"


def test_a_search_whose_terminal_is_closed_stops_as_cleanly(marsexp: Marsexp, wait_for: WaitFor) -> None:
    from marsseg.tracking.store import open_store

    write_tiles(marsexp.folder / "tiles.npz")
    ours, theirs = os.openpty()
    process = start(marsexp, *SEARCH, shown_on=theirs)
    os.close(theirs)
    wait_for(lambda: epochs_in_ledger(marsexp.home) >= 1)
    os.close(ours)
    os.killpg(process.pid, signal.SIGHUP)
    assert process.wait(timeout=60) == 130
    store = open_store(marsexp.home)
    states = {run.info.status for run in store.client.search_runs([store.experiment_id])}
    assert "KILLED" in states
    assert "RUNNING" not in states


def test_two_searches_started_at_once_without_a_store_both_complete(tmp_path: Path) -> None:
    marsexp = make_marsexp(tmp_path)
    write_tiles(marsexp.folder / "tiles.npz")
    options = ("--budget", "1", "--max-epochs", "1", "--space", "space.toml", "--data", "tiles.npz")
    options += ("--set", "model.num_blocks=2")
    processes = [start(marsexp, "search", *options, "--name", name) for name in ("one", "other")]
    for process in processes:
        _, stderr = process.communicate(timeout=240)
        assert process.returncode == 0, stderr
    from marsseg.tracking.store import open_store

    store = open_store(marsexp.home)
    runs = store.client.search_runs([store.experiment_id])
    assert sorted(run.data.tags["marsexp.search"] for run in runs) == ["one", "one", "other", "other"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    for name in ("one", "other"):
        document = marsexp("leaderboard", name, "--json").json()
        assert [trial["state"] for trial in document["trials"]] == ["completed"]


def test_dry_run_shows_what_a_search_would_begin_with_and_writes_nothing_down(tmp_path: Path) -> None:
    marsexp = make_marsexp(tmp_path)
    write_tiles(marsexp.folder / "tiles.npz")
    search = ("search", "--budget", "3", *SEARCH[3:], "--max-epochs", "2", "--set", "model.num_blocks=2")
    plan = marsexp(*search, "--workers", "2", "--dry-run", "--json").json()
    schemas = Path(__file__).parents[2] / "docs" / "schemas"
    jsonschema.validate(plan, json.loads((schemas / "plan.json").read_text(encoding="utf-8")))
    assert (plan["budget"], len(plan["trials"])) == (3, 3)
    assert plan["expected_s"] > 0
    assert plan["full_training_s"] > plan["expected_s"] / 2
    assert not (marsexp.home / "mlflow.db").exists()
    assert not (marsexp.home / "checkpoints").exists()
    begun = marsexp(*search, "--record", "curves.jsonl", "--json").json()
    by_trial = {trial["trial"]: trial for trial in begun["trials"]}
    assert [trial["values"] for trial in plan["trials"]] == [by_trial[n]["values"] for n in range(3)]
    assert [trial["params"] for trial in plan["trials"]] == [by_trial[n]["params"] for n in range(3)]
    lines = (marsexp.folder / "curves.jsonl").read_text(encoding="utf-8").splitlines()
    curves = [json.loads(line) for line in lines]
    assert [curve["config"] for curve in curves] == [by_trial[n]["values"] for n in range(3)]
    for number, curve in enumerate(curves):
        scores = [record["val_mean_iou"] for record in curve["history"]]
        assert len(scores) == by_trial[number]["epochs"]
        assert max(scores) == pytest.approx(by_trial[number]["best_val_mean_iou"], abs=1e-6)
        assert len(curve["history"][0]["val_iou"]) == 4
        assert curve["cost"]["epoch"] > 0
    refused = marsexp(*SEARCH[:7], "--name", "other", "--record", "curves.jsonl")
    assert refused.status == 2
    assert "found one that exists" in refused.stderr


def test_confirmation_trains_the_best_again_with_seeds_of_their_own(marsexp: Marsexp) -> None:
    write_tiles(marsexp.folder / "tiles.npz")
    small = ("--max-epochs", "1", "--set", "model.num_blocks=2", "--set", "split.test_images=8")
    search = ("search", "--budget", "2", *SEARCH[3:], *small, "--confirm", "2", "--seeds", "2")
    text = marsexp(*search).stdout
    document = marsexp("search", "--resume", "s", "--confirm", "2", "--seeds", "2", "--json").json()
    schemas = Path(__file__).parents[2] / "docs" / "schemas"
    jsonschema.validate(document, json.loads((schemas / "leaderboard.json").read_text(encoding="utf-8")))
    trained = marsexp("leaderboard", "s-confirm-2x2", "--json").json()["trials"]
    assert len(trained) == 4, "going on trains nothing again"
    assert load_settings(Home(marsexp.home), "s-confirm-2x2", "training").workers == 1, "as many as the search's"
    by_run = {trial["run_id"]: trial for trial in trained}
    best = [trial["trial"] for trial in document["trials"][:2]]
    assert [result["trial"] for result in document["confirmed"]] == best
    for result in document["confirmed"]:
        runs = [by_run[run_id] for run_id in result["run_ids"]]
        assert {run["values"]["recipe"] for run in runs} == {f"trial-{result['trial']}"}
        scores = [run["best_val_mean_iou"] for run in runs]
        assert result["val_mean_iou"]["mean"] == pytest.approx(sum(scores) / 2)
        assert result["val_mean_iou"]["sd"] == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5)
        shown = f"trial {result['trial']} with 2 other seeds: val_mean_iou {result['val_mean_iou']['mean']:.4f} ±"
        assert shown in text
    first = document["confirmed"][0]
    evaluated = marsexp("evaluate", first["run_ids"][0], "--split", "test", "--json").json()["val_mean_iou"]
    spread = first["test_mean_iou"]
    assert abs(evaluated - spread["mean"]) == pytest.approx(spread["sd"] / 2**0.5)
