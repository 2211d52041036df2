import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marsseg.data.clean import clean_file, outlier_indices
from marsseg.data.sources import load_raw, load_tiles
from marsseg.data.tiles import Tiles
from marsseg.errors import NotFoundError, UsageError
from tests.data.conftest import random_masks, textured_images

WRONG = (3, 5, 8, 13, 21, 34)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    masks = random_masks(40)
    masks[list(WRONG)] = random_masks(1, seed=99)
    path = tmp_path / "in.npz"
    pairs = np.stack([textured_images(40), masks], axis=1).astype(np.int16)
    np.savez(path, training_set=pairs, test_set=textured_images(3, seed=7))
    return path


def test_new_file_lacks_the_outliers_alone(source: Path, tmp_path: Path) -> None:
    before = source.read_bytes()
    result = clean_file(source, tmp_path / "out.npz")
    assert (result.kept, tuple(result.removed), result.out) == (34, WRONG, tmp_path / "out.npz")
    raw, cleaned = load_raw(source), load_raw(result.out)
    assert cleaned["training_set"].dtype == np.int16
    assert np.array_equal(cleaned["training_set"], np.delete(raw["training_set"], WRONG, axis=0))
    assert np.array_equal(cleaned["test_set"], raw["test_set"])
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npz", "out.npz"]
    assert outlier_indices(load_tiles(result.out)) == {}


def test_frames_stay_in_step(source: Path, tmp_path: Path) -> None:
    frames = np.array([f"frame {index // 4}" for index in range(40)])
    np.savez(tmp_path / "framed.npz", **load_raw(source), frames=frames)
    cleaned = load_raw(clean_file(tmp_path / "framed.npz", tmp_path / "out.npz").out)
    assert cleaned["frames"].tolist() == np.delete(frames, WRONG).tolist()
    assert len(cleaned["training_set"]) == 34


def test_lists_name_index_and_reason(source: Path, tmp_path: Path) -> None:
    clean_file(source, tmp_path / "out.json")
    clean_file(source, tmp_path / "out.csv")
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["images"] == 40
    assert tuple(row["index"] for row in document["removed"]) == WRONG
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{"index": int(row["index"]), "reason": row["reason"]} for row in rows] == document["removed"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("in.npz", "is the input"),
        ("there.npz", "expected a new file"),
        ("out.txt", r"ends in \.npz, \.json or \.csv"),
        ("missing/out.npz", "expected an existing folder"),
        ("../{folder}/in.npz", "is the input"),
    ],
)
def test_targets_that_are_refused(source: Path, tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / "there.npz").write_bytes(b"precious")
    before = source.read_bytes()
    with pytest.raises(UsageError, match=expected):
        clean_file(source, tmp_path / name.format(folder=tmp_path.name))
    assert source.read_bytes() == before
    assert (tmp_path / "there.npz").read_bytes() == b"precious"


def test_missing_source(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        clean_file(tmp_path / "none.npz", tmp_path / "out.npz")


def test_full_disk_leaves_nothing_behind(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(UsageError, match="No space left"):
        clean_file(source, tmp_path / "out.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["in.npz"]


def test_course_file(course_tiles: Tiles) -> None:
    removed = outlier_indices(course_tiles)
    assert len(removed) == 110
    assert set(removed.values()) == {"110 images share one identical mask"}
