import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marsseg.config import ExperimentConfig, parse_config
from marsseg.data.clean import clean_file
from marsseg.data.prepare import changed_parts, prepare_data
from marsseg.errors import DataError
from tests.data.conftest import random_masks, textured_images

WRONG = (3, 5, 8, 13, 21, 34)


def make_pairs() -> np.ndarray:
    masks = random_masks(60)
    masks[list(WRONG)] = random_masks(1, seed=99)
    return np.stack([textured_images(60), masks], axis=1)


def config_for(path: Path, **values: Any) -> ExperimentConfig:
    return parse_config({}).with_values({"data.source": str(path), **values})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "tiles.npz"
    np.savez(path, training_set=make_pairs())
    return path


def test_parts_hold_what_the_split_says(source: Path) -> None:
    data = prepare_data(config_for(source))
    assert tuple(data.removed) == WRONG
    assert len(data.images) == len(data.masks) == 60
    assert [len(part.images) for part in (data.train, data.validation, data.test)] == [44, 5, 5]
    assert data.train.images.shape == (44, 64, 128, 1)
    assert np.array_equal(data.validation.images[..., 0], data.images[data.split.validation])
    assert np.array_equal(data.test.masks, data.masks[data.split.test])
    used = np.concatenate([data.split.train, data.split.validation, data.split.test])
    assert sorted(used) == sorted(set(range(60)) - set(WRONG))


def test_outliers_stay_on_request(source: Path) -> None:
    data = prepare_data(config_for(source, **{"cleaning.remove_outliers": False}))
    assert data.removed == {}
    assert len(data.split.train) == 48


def test_near_duplicates_stay_on_one_side(tmp_path: Path) -> None:
    pairs = make_pairs()[:40]
    noise = np.random.default_rng(0).integers(0, 3, pairs[:, 0].shape)
    copies = pairs.copy()
    copies[:, 0] = np.clip(pairs[:, 0] + noise, 0, 255)
    np.savez(tmp_path / "tiles.npz", training_set=np.concatenate([pairs, copies]))
    data = prepare_data(config_for(tmp_path / "tiles.npz", **{"cleaning.remove_outliers": False}))
    for part in (data.split.train, data.split.validation, data.split.test):
        assert {index % 40 + 40 for index in part} <= set(part) | {index + 40 for index in part}
        assert all((index + 40) % 80 in part for index in part)


def test_tiles_of_a_frame_stay_on_one_side(tmp_path: Path) -> None:
    pairs, frames = make_pairs(), np.arange(60) // 5
    np.savez(tmp_path / "tiles.npz", training_set=pairs, frames=frames)
    data = prepare_data(config_for(tmp_path / "tiles.npz"))
    assert tuple(data.removed) == WRONG
    parts = (data.split.train, data.split.validation, data.split.test)
    assert sum(len(set(frames[part])) for part in parts) == 12
    assert all(len(part) for part in parts)


def test_frames_that_hold_one_tile_each_change_nothing(source: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "framed.npz", training_set=make_pairs(), frames=np.arange(60)[::-1])
    expected = prepare_data(config_for(source)).fingerprint
    assert prepare_data(config_for(tmp_path / "framed.npz")).fingerprint == expected


def test_train_limit(source: Path) -> None:
    full, limited = prepare_data(config_for(source)), prepare_data(config_for(source, **{"data.train_limit": 10}))
    assert len(limited.split.train) == 10
    assert set(limited.split.train) <= set(full.split.train)
    assert np.array_equal(limited.split.test, full.split.test)
    assert changed_parts(full.fingerprint.to_dict(), limited.fingerprint.to_dict()) == ["split"]


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("int32", 1), *((name, scale) for name in ("float16", "float32", "float64") for scale in (1, 255))],
)
def test_fingerprint_does_not_depend_on_the_dtype(source: Path, tmp_path: Path, dtype: str, scale: int) -> None:
    pairs = make_pairs().astype(dtype)
    pairs[:, 0] = (make_pairs()[:, 0] / scale).astype(dtype)
    np.savez(tmp_path / "other.npz", training_set=pairs)
    expected = prepare_data(config_for(source)).fingerprint
    assert prepare_data(config_for(tmp_path / "other.npz")).fingerprint == expected


def test_fingerprint_names_what_changed(source: Path, tmp_path: Path) -> None:
    first = prepare_data(config_for(source)).fingerprint.to_dict()
    assert changed_parts(first, first) == []
    assert set(first) == {"pixels", "masks", "split", "cleaning", "digest"}
    assert all(len(digest) == 64 for digest in first.values())
    joined = "\n".join(first[part] for part in ("pixels", "masks", "split", "cleaning"))
    assert first["digest"] == hashlib.sha256(joined.encode()).hexdigest()

    pairs = make_pairs()
    pairs[0, 0, 5, 5] ^= 1
    np.savez(tmp_path / "pixel.npz", training_set=pairs)
    assert changed_parts(first, prepare_data(config_for(tmp_path / "pixel.npz")).fingerprint.to_dict()) == ["pixels"]

    other_split = prepare_data(config_for(source, **{"split.seed": 1})).fingerprint.to_dict()
    assert changed_parts(first, other_split) == ["split"]

    assert changed_parts(first, {}) == changed_parts({}, first) == ["pixels", "masks", "split", "cleaning"]


def test_a_file_cleaned_beforehand_differs_in_cleaning_alone(source: Path, tmp_path: Path) -> None:
    clean_file(source, tmp_path / "clean.npz")
    raw, cleaned = (prepare_data(config_for(path)).fingerprint for path in (source, tmp_path / "clean.npz"))
    assert changed_parts(raw.to_dict(), cleaned.to_dict()) == ["cleaning"]


def test_nothing_left_for_training(source: Path) -> None:
    with pytest.raises(DataError, match="training"):
        prepare_data(config_for(source, **{"split.validation_images": 54}))


def test_synthetic_default() -> None:
    data = prepare_data(parse_config({"data": {"synthetic_images": 20}}))
    assert data.source == "synthetic"
    assert [len(part.masks) for part in (data.train, data.validation, data.test)] == [16, 2, 2]


def test_course_file(course_file: Path) -> None:
    data = prepare_data(config_for(course_file))
    assert len(data.removed) == 110
    assert [len(part) for part in (data.split.train, data.split.validation, data.split.test)] == [2005, 250, 250]
