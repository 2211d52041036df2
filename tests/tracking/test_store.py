"""The store: new stores opened simultaneously, moved stores, broken stores; and sending data twice."""

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from marsseg.errors import TrackingError
from marsseg.tracking.recorder import Point, Recorder, RunSpec
from marsseg.tracking.store import open_store, read_artifact


def test_eight_processes_open_a_fresh_store_and_log_at_once(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from marsseg.tracking.recorder import Point, Recorder, RunSpec\n"
        "from marsseg.tracking.store import open_store\n"
        f"recorder = Recorder(open_store(Path({str(tmp_path / 'home')!r})))\n"
        "run_id = recorder.open_run(RunSpec({'process': sys.argv[1]}, sys.argv[1], 1))\n"
        "for step in range(1, 11):\n"
        "    recorder.log_points(run_id, [Point(step, step, {'loss': step / 7})])\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(number)], stderr=subprocess.PIPE, text=True)
        for number in range(8)
    ]
    for process in processes:
        _, stderr = process.communicate(timeout=180)
        assert process.returncode == 0, stderr
    store = open_store(tmp_path / "home")
    runs = store.client.search_runs([store.experiment_id])
    assert len(runs) == 8
    for run in runs:
        values = [metric.value for metric in store.client.get_metric_history(run.info.run_id, "loss")]
        assert values == [step / 7 for step in range(1, 11)]


def test_sending_twice_changes_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    recorder = Recorder(store)
    dataset = {"name": "tiles.npz", "digest": "0", "source": "elsewhere/tiles.npz", "profile": "{}"}
    params = {"model.num_blocks": 4, "data.source": "elsewhere/tiles.npz"}
    spec = RunSpec({"marsexp.search": "s", "marsexp.trial": "3"}, "s-trial-3", 1, params, dataset=dataset)
    run_id = recorder.open_run(spec)
    assert recorder.open_run(spec) == run_id
    moved = {"name": "moved.npz", "source": "moved.npz"}
    data_moved = replace(spec, params={**params, "data.source": "moved.npz"}, dataset={**dataset, **moved})
    assert recorder.open_run(data_moved) == run_id, "resumed after a kill"
    run = store.client.get_run(run_id)
    assert run.data.params == {"model.num_blocks": "4", "data.source": "elsewhere/tiles.npz"}
    assert [each.dataset.name for each in run.inputs.dataset_inputs] == ["tiles.npz"]
    points = [Point(1, 100, {"loss": 0.1 + 0.2}), Point(2, 200, {"loss": 1e-300})]
    for _ in range(2):
        recorder.log_points(run_id, points)
    history = store.client.get_metric_history(run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.1 + 0.2), (2, 1e-300)]


def _log_note(folder: Path, text: str) -> str:
    """Creates a run with one file in the store `here`, and returns the run's ID."""
    recorder = Recorder(open_store(folder / "here"))
    run_id = recorder.open_run(RunSpec({"a": "b"}, "name", 1))
    (folder / "files").mkdir()
    (folder / "files" / "note.txt").write_text(text, encoding="utf-8")
    recorder.log_folder(run_id, folder / "files")
    return run_id


def test_moved_folder_finds_its_artifacts(tmp_path: Path) -> None:
    run_id = _log_note(tmp_path, "kept")
    (tmp_path / "here").rename(tmp_path / "there%_")
    store = open_store(tmp_path / "there%_")
    assert read_artifact(store, run_id, "note.txt") == b"kept"
    assert store.client.get_experiment(store.experiment_id).artifact_location.startswith(
        (tmp_path / "there%_").as_uri()
    )


def test_artifacts_of_an_experiment_created_under_another_address_stay_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    open_store(tmp_path / "elsewhere", "sqlite:///here/mlflow.db")
    run_id = _log_note(tmp_path, "kept")
    assert read_artifact(open_store(tmp_path / "here"), run_id, "note.txt") == b"kept"


def test_reading_an_artifact_leaves_nothing_in_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    run_id = _log_note(tmp_path, "kept")
    assert read_artifact(open_store(tmp_path / "here"), run_id, "note.txt") == b"kept"
    with pytest.raises(TrackingError, match=r"other.txt cannot be read \(Failed to download artifacts from path"):
        read_artifact(open_store(tmp_path / "here"), run_id, "other.txt")
    assert list((tmp_path / "temporary").iterdir()) == []


def test_file_that_is_no_store_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database, but it is long enough to look at" * 40, encoding="utf-8")
    with pytest.raises(TrackingError, match="cannot be opened as a tracking store") as error_info:
        open_store(tmp_path)
    assert "\n" not in str(error_info.value)
