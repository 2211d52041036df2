"""Reruns: identical if nothing changed, otherwise diverged with the cause named."""

import json
import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from marsseg.config import ExperimentConfig
from marsseg.data.prepare import prepare_data
from marsseg.jobs.home import Home
from marsseg.jobs.reproduce import _document, _Original
from marsseg.jobs.rerun import Rerun, end_killed_reruns, rerun_folder
from marsseg.jobs.runs import RunRecord
from marsseg.tracking.recorder import Point, Recorder, RunSpec
from marsseg.tracking.store import open_store
from tests.conftest import Marsexp, workers_of, write_tiles
from tests.jobs.test_train import TINY


def test_promoted_winner_is_identical_though_a_worker_of_the_rerun_dies(
    copied_search: Marsexp, leaderboard: dict[str, Any]
) -> None:
    with closing(sqlite3.connect(copied_search.home / "ledger.db")) as connection:
        winner = leaderboard["trials"][0]["trial"]
        query = "select count(*) from events where kind = 'started' and trial = ?"
        (segments,) = connection.execute(query, [winner]).fetchone()
    assert segments == 3, "the winner should have been paused and promoted twice"
    process = subprocess.Popen(
        copied_search.command("reproduce", "best", "--json"),
        cwd=copied_search.folder,
        env=copied_search.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    assert any(line.startswith("epoch 1/4") for line in lines)
    (worker,) = workers_of(process.pid)
    worker.kill()
    stdout, stderr = process.communicate(timeout=240)
    document = json.loads(stdout)
    assert process.returncode == 0, document
    assert re.search("the worker process ended with signal 9.*; resuming from epoch", stderr)
    schema = Path(__file__).parents[2] / "docs" / "schemas" / "reproduce.json"
    jsonschema.validate(document, json.loads(schema.read_text(encoding="utf-8")))
    assert document["verdict"] == "identical"
    assert document["weights_sha256"]["original"] == document["weights_sha256"]["rerun"]
    assert document["max_metric_difference"] == 0
    assert document["causes"] == []
    assert document["run_id"] != document["original_run_id"] == leaderboard["trials"][0]["run_id"]


def test_float16_with_its_loss_scale_is_identical_too(marsexp: Marsexp) -> None:
    write_tiles(marsexp.folder / "tiles.npz")
    (marsexp.folder / "tiny.toml").write_text(TINY.format(seed=0, max_epochs=2), encoding="utf-8")
    float16 = ("--set", "training.precision=float16")
    assert marsexp("train", "tiny.toml", "--data", "tiles.npz", *float16).status == 0
    document = marsexp("reproduce", "best", "--json").json()
    assert document["verdict"] == "identical"
    assert document["weights_sha256"]["original"] == document["weights_sha256"]["rerun"]


def test_changed_seed_and_gpu_diverge_and_are_named(copied_search: Marsexp, leaderboard: dict[str, Any]) -> None:
    run_id = leaderboard["trials"][0]["run_id"]
    path = copied_search.home / "artifacts" / run_id / "artifacts" / "environment.json"
    environment = json.loads(path.read_text(encoding="utf-8"))
    environment["instructions"].remove("avx")
    environment["instructions"].append("amx_other")
    environment["packages"]["nvidia-cudnn"] = "9.1"
    path.write_text(json.dumps({**environment, "gpus": ["Some GPU", "Some GPU"]}), encoding="utf-8")
    done = copied_search("reproduce", "best", "--set", "seed=1", "--json")
    document = done.json()
    assert (done.status, document["verdict"]) == (1, "diverged")
    assert document["diverged_at_epoch"] == 1
    assert any("config: seed" in cause for cause in document["causes"])
    assert any(cause.startswith("hardware: gpus Some GPU -> ") for cause in document["causes"])
    assert "versions: nvidia-cudnn 9.1 -> None" in document["causes"]
    assert "hardware: CPU instructions, lost: amx_other, new: avx" in document["causes"]


def test_one_changed_pixel_diverges_before_any_training(copied_search: Marsexp) -> None:
    path = copied_search.folder / "tiles.npz"
    pairs = np.load(path)["training_set"]
    config = ExperimentConfig().with_values({"data.source": str(path)})
    index = prepare_data(config).split.train[0]
    pairs[index, 0, 5, 5] ^= 1
    np.savez(path, training_set=pairs)
    # The copied store still refers to the tiles of the original search.
    done = copied_search("reproduce", "best", "--data", str(path), "--json")
    document = done.json()
    assert (done.status, document["verdict"]) == (1, "diverged")
    assert document["run_id"] is None
    assert document["causes"] == ["data: pixels"]


def test_a_run_whose_data_was_moved_between_two_segments_is_no_other_run(
    copied_search: Marsexp, leaderboard: dict[str, Any]
) -> None:
    run_id = leaderboard["trials"][0]["run_id"]
    path = copied_search.home / "artifacts" / run_id / "artifacts" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["data"]["source"] = str(copied_search.folder / "tiles.npz")
    path.write_text(json.dumps(config), encoding="utf-8")
    done = copied_search("evaluate", run_id, "--json")
    assert (done.status, done.json()["run_ids"]) == (0, [run_id])


def test_config_changed_in_the_store_diverges_before_any_training(
    copied_search: Marsexp, leaderboard: dict[str, Any]
) -> None:
    run_id = leaderboard["trials"][0]["run_id"]
    path = copied_search.home / "artifacts" / run_id / "artifacts" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["optimizer"]["learning_rate"] = 0.5
    path.write_text(json.dumps(config), encoding="utf-8")
    done = copied_search("reproduce", run_id[:10])
    assert done.status == 1
    assert "before any training" in done.stdout
    assert "optimizer.learning_rate" in done.stdout


def test_points_that_the_store_misses_follow_once_it_answers_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(tmp_path)
    recorder = Recorder(store)
    rerun = Rerun(recorder, recorder.open_run(RunSpec({"marsexp.reproduces": "a run"}, "again", 1)))
    refusal = "create trigger refusal before insert on metrics begin select raise(abort, 'out of order'); end"
    for statement in (refusal, "drop trigger refusal"):
        with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
            connection.execute(statement)
        rerun.send(Point(1 if statement == refusal else 2, 100, {"loss": 0.5}))
        assert ("could not be written to" in capsys.readouterr().err) == (statement == refusal)
    assert [metric.step for metric in store.client.get_metric_history(rerun.run_id, "loss")] == [1, 2]


def test_a_rerun_that_was_killed_ends_as_killed_and_one_that_is_training_goes_on(tmp_path: Path) -> None:
    store, home = open_store(tmp_path), Home(tmp_path)
    recorder = Recorder(store)
    killed, training = (recorder.open_run(RunSpec({"marsexp.rerun": name}, name, 1)) for name in ("1", "2"))
    for run_id in (killed, "of-another-store"):
        (home.reproductions / run_id).mkdir(parents=True)
        (home.reproductions / f"{run_id}.lock").touch()
    with rerun_folder(home, training) as folder:
        folder.mkdir()
        end_killed_reruns(home, recorder)
        left = {path.name for path in home.reproductions.iterdir()}
        assert left == {training, f"{training}.lock"}
        assert store.client.get_run(killed).info.status == "KILLED"
        assert store.client.get_run(training).info.status == "RUNNING"
    assert list(home.reproductions.iterdir()) == []


VERSION, CODE = "versions: keras 3.15.1 -> 3.16.0", "code: the sources of marsexp differ from those of the run"


@pytest.mark.parametrize(
    ("causes", "score", "same_weights", "verdict"),
    [
        ([], 0.5, True, "identical"),
        ([VERSION], 0.5, True, "identical"),
        ([VERSION], 0.5, False, "within tolerance"),
        ([VERSION], 0.52, False, "within tolerance"),
        ([VERSION, "hardware: processor one -> another"], 0.48, False, "within tolerance"),
        ([VERSION], 0.521, False, "diverged"),
        ([VERSION, CODE], 0.51, False, "diverged"),
        ([], 0.51, False, "diverged"),
        (["config: seed 0 -> 1"], 0.5, True, "diverged"),
    ],
)
def test_another_machine_or_version_may_change_the_score_a_little(
    causes: list[str], score: float, same_weights: bool, verdict: str
) -> None:
    metrics = {"best_val_mean_iou": 0.5}
    record = RunRecord("run", "name", "FINISHED", 0, {}, metrics, ExperimentConfig(), (), {}, {})
    hashes = {"final": "1", "best": "2"}
    facts = {"best_val_mean_iou": score, "weights_sha256": hashes if same_weights else {"final": "3", "best": "4"}}
    epochs = {1: {"val_mean_iou": 0.5}}
    document = _document(_Original(record, epochs, hashes), list(causes), "rerun", {1: {"val_mean_iou": score}}, facts)
    assert document["verdict"] == verdict
    assert bool(document["causes"]) == (verdict != "identical")
