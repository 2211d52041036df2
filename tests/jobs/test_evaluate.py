"""Runs scored again: bit-identical on their own validation split, combined as an ensemble, refused where unfair."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marsseg.config import ExperimentConfig
from marsseg.data.prepare import prepare_data
from marsseg.errors import DataError, MarsexpError, NotFoundError, TrackingError, UsageError
from marsseg.jobs.ensemble import Member, load_members, predict_labels
from marsseg.jobs.evaluate import evaluate_runs, render_evaluation
from marsseg.jobs.home import Home
from tests.conftest import Marsexp, write_tiles
from tests.jobs.test_train import TINY


def completed(leaderboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [trial for trial in leaderboard["trials"] if trial["state"] == "completed"]


def check_refused(marsexp: Marsexp, error: type[MarsexpError], runs: Sequence[str], **options: Any) -> str:
    given = {"data_source": None, "split": "validation", "tracking_uri": None, **options}
    with pytest.raises(error) as info:
        evaluate_runs(Home(marsexp.home), runs, **given)
    message = str(info.value)
    assert "\n" not in message
    return message


def test_every_completed_run_has_its_own_score_to_the_bit(
    finished_search: Marsexp, leaderboard: dict[str, Any]
) -> None:
    for trial in completed(leaderboard):
        document = finished_search("evaluate", trial["run_id"][:12], "--json").json()
        assert document["val_mean_iou"] == trial["best_val_mean_iou"]
        assert document["run_ids"] == [trial["run_id"]]
        assert document["images"] == 4
        assert np.sum(document["confusion_matrix"]) == 4 * 32 * 64


def test_ensemble_is_the_argmax_of_the_mean_probabilities(
    finished_search: Marsexp, leaderboard: dict[str, Any], tensorflow_runtime: int
) -> None:
    from safetensors.numpy import load
    from scipy.special import softmax

    from marsseg.training.network import build_network

    run_ids = [trial["run_id"] for trial in completed(leaderboard)[:2]]
    assert len(run_ids) == 2
    members = [
        replace(member, record=replace(member.record, config=on_threads(member, tensorflow_runtime)))
        for member in load_members(Home(finished_search.home), run_ids, None)
    ]
    images, _ = prepare_data(members[0].config).test
    probabilities = []
    for member in members:
        weights = load(member.weights)
        model = build_network(member.config, (32, 64))
        model.set_weights([weights[weight.path] for weight in model.weights])
        probabilities.append(softmax(np.float64(model.predict(images, verbose=0)), axis=-1))
    together = predict_labels(members, images)
    assert (together == np.mean(probabilities, axis=0).argmax(axis=-1)).mean() > 0.999
    for member in members:
        assert (predict_labels([member], images) != together).any()


def test_test_time_augmentation_is_the_argmax_over_the_mirror_images(
    finished_search: Marsexp, leaderboard: dict[str, Any], tensorflow_runtime: int
) -> None:
    from marsseg.jobs.ensemble import _load_network
    from marsseg.training.step import Evaluator

    run_id = completed(leaderboard)[0]["run_id"]
    (member,) = load_members(Home(finished_search.home), [run_id], None)
    member = replace(member, record=replace(member.record, config=on_threads(member, tensorflow_runtime)))
    images, masks = prepare_data(member.config).test
    predict = Evaluator(_load_network(member, images), len(images)).predict_probabilities
    mean = (
        predict(images)
        + predict(images[:, :, ::-1])[:, :, ::-1]
        + predict(images[:, ::-1])[:, ::-1]
        + predict(images[:, ::-1, ::-1])[:, ::-1, ::-1]
    )
    found = predict_labels([member], images, test_time_augmentation=True)
    np.testing.assert_array_equal(found, mean.argmax(axis=-1))
    assert (found != predict_labels([member], images)).any()
    # An image and its mirror image are given mirrored labels.
    mirrored = predict_labels([member], images[:, :, ::-1], test_time_augmentation=True)[:, :, ::-1]
    assert (mirrored == found).mean() > 0.999

    document = finished_search("evaluate", run_id, "--split", "test", "--tta", "--json").json()
    assert document["test_time_augmentation"]
    counts = np.zeros((5, 5), np.int64)
    np.add.at(counts, (masks.ravel(), found.ravel()), 1)
    np.testing.assert_array_equal(document["confusion_matrix"], counts)


def on_threads(member: Member, threads: int) -> ExperimentConfig:
    return member.config.with_values({"training.threads": threads})


def test_other_images_are_scored_as_a_whole_or_not_at_all(
    finished_search: Marsexp, leaderboard: dict[str, Any], tmp_path: Path
) -> None:
    # Too few images to make training, validation and test splits of.
    other = write_tiles(tmp_path / "other.npz", num_images=2, seed=1)
    runs = [trial["run_id"] for trial in completed(leaderboard)[:2]]
    done = finished_search("evaluate", *runs, "--data", str(other), "--split", "all", "--json")
    assert done.status == 0, done.stderr
    document = done.json()
    assert (document["images"], document["data"], document["run_ids"]) == (2, str(other), runs)
    text = render_evaluation(document)
    assert "all images" in text
    assert f"{document['val_mean_iou']:.4f}" in text
    many = write_tiles(tmp_path / "many.npz", seed=1)
    for split in ("validation", "test"):
        message = check_refused(finished_search, DataError, runs, data_source=str(many), split=split)
        assert "different pixels, masks" in message
        assert "--split all" in message


def test_data_that_has_changed_where_it_lay_is_refused(copied_search: Marsexp, leaderboard: dict[str, Any]) -> None:
    path = copied_search.folder / "tiles.npz"
    pairs = np.load(path)["training_set"]
    pairs[0, 0, 5, 5] ^= 1
    np.savez(path, training_set=pairs)
    # The copied store still refers to the tiles of the original search.
    message = check_refused(copied_search, DataError, ["best"], data_source=str(path))
    assert "different pixels" in message


def test_run_that_kept_no_weights_and_run_that_is_named_twice(
    finished_search: Marsexp, leaderboard: dict[str, Any]
) -> None:
    stopped = next(trial for trial in leaderboard["trials"] if trial["state"] == "stopped")
    message = check_refused(finished_search, NotFoundError, [stopped["run_id"]])
    assert f"stopped after {stopped['epochs']} of 4 epochs" in message
    assert "marsexp leaderboard" in message
    assert "twice" in check_refused(finished_search, UsageError, ["best", leaderboard["trials"][0]["run_id"]])
    assert "did you mean 'test'" in check_refused(finished_search, UsageError, ["best"], split="tests")


def test_exchanged_weights_are_refused(
    copied_search: Marsexp, leaderboard: dict[str, Any], tensorflow_runtime: int
) -> None:
    first, second = (
        copied_search.home / "artifacts" / trial["run_id"] / "artifacts" / "best_weights.safetensors"
        for trial in completed(leaderboard)[:2]
    )
    first.write_bytes(second.read_bytes())
    (member,) = load_members(Home(copied_search.home), ["best"], None)
    member = replace(member, record=replace(member.record, config=on_threads(member, tensorflow_runtime)))
    with pytest.raises(TrackingError, match="does not hold the weights that the run logged"):
        predict_labels([member], np.zeros((1, 32, 64, 1), np.float32))


def test_runs_of_other_splits_are_no_ensemble_and_a_split_may_be_empty(
    copied_search: Marsexp, leaderboard: dict[str, Any]
) -> None:
    (copied_search.folder / "tiny.toml").write_text(TINY.format(seed=0, max_epochs=1), encoding="utf-8")
    trained = copied_search(
        *("train", "tiny.toml", "--data", "tiles.npz", "--name", "t", "--set", "split.test_images=0", "--json")
    )
    run = trained.json()["trials"][0]["run_id"]
    message = check_refused(copied_search, DataError, [run], split="test")
    assert "split.test_images = 0" in message
    message = check_refused(copied_search, UsageError, ["best:tiny", run])
    assert "different split" in message
    assert "--split all" in message
    # Images are recognised by their content, whatever the file is called.
    shutil.copy(copied_search.folder / "tiles.npz", copied_search.folder / "renamed.npz")
    both = copied_search("evaluate", "best:tiny", run, "--data", "renamed.npz", "--split", "all", "--json")
    assert both.status == 0, both.stderr
    assert both.json()["images"] == 40
    assert "include the training images" in both.stderr
