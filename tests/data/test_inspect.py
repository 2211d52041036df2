import json
from dataclasses import replace

import numpy as np
import pytest

from marsseg.data.inspect import find_outlier_groups, inspect_tiles, render_group
from marsseg.data.tiles import Tiles
from tests.data.conftest import random_masks, textured_images


def make_tiles(count: int, masks: np.ndarray | None = None, images: np.ndarray | None = None) -> Tiles:
    images = textured_images(count) if images is None else images
    masks = random_masks(count) if masks is None else masks
    return Tiles(images.astype(np.float32) / np.float32(255), masks, 5, "test")


def planted(count: int, wrong: int) -> tuple[Tiles, tuple[int, ...]]:
    masks = random_masks(count)
    indices = np.sort(np.random.default_rng(1).permutation(count)[:wrong])
    masks[indices] = random_masks(1, seed=99)
    return make_tiles(count, masks), tuple(indices.tolist())


@pytest.mark.parametrize(("count", "wrong"), [(40, 4), (120, 10), (300, 13)])
def test_planted_outliers_are_found(count: int, wrong: int) -> None:
    tiles, indices = planted(count, wrong)
    (group,) = find_outlier_groups(tiles)
    assert group.indices == indices
    assert str(wrong) in group.reason


@pytest.mark.parametrize(("count", "wrong"), [(40, 4), (120, 10)])
def test_synthetic_outliers_are_found(count: int, wrong: int) -> None:
    from marsseg.data.synthetic import generate_terrain

    terrain = generate_terrain(count, outliers=wrong)
    (group,) = find_outlier_groups(make_tiles(count, terrain.masks, terrain.images))
    assert group.indices == terrain.outlier_indices


def test_uniform_masks_stay() -> None:
    masks = random_masks(60)
    masks[:30] = 1
    assert find_outlier_groups(make_tiles(60, masks)) == []


def test_few_tiles_with_one_skyline_stay() -> None:
    masks = random_masks(60)
    masks[:5] = 1
    masks[:5, :20] = 0
    assert find_outlier_groups(make_tiles(60, masks)) == []


def test_one_image_copied_with_its_mask_is_a_duplicate_and_no_outlier() -> None:
    images, masks = textured_images(60), random_masks(60)
    noise = np.random.default_rng(0).integers(0, 3, (10, 64, 128))
    images[:10] = np.clip(images[0] + noise, 0, 255)
    masks[:10] = masks[0]
    inspection = inspect_tiles(make_tiles(60, masks, images))
    assert inspection.outlier_groups == ()
    assert inspection.duplicate_groups == (tuple(range(10)),)


def test_exact_and_near_duplicates_are_told_apart() -> None:
    images = textured_images(9)
    images[3] = images[1]
    images[5] = np.clip(images[2] + np.random.default_rng(0).integers(0, 3, (64, 128)), 0, 255)
    # A group in which only two images are equal counts as near.
    images[6], images[7] = images[0], np.clip(images[0] + np.random.default_rng(1).integers(0, 3, (64, 128)), 0, 255)
    inspection = inspect_tiles(make_tiles(9, images=images))
    assert inspection.duplicate_groups == ((0, 6, 7), (1, 3), (2, 5))
    assert inspection.duplicate_kinds == ("near", "exact", "near")


def test_frames_are_counted_where_they_are_known() -> None:
    tiles = make_tiles(6)
    assert inspect_tiles(tiles).frames is None
    assert inspect_tiles(replace(tiles, frames=np.array([2, 2, 0, 5, 5, 5]))).frames == 3


def test_a_mask_that_most_images_share_is_their_layout() -> None:
    masks = np.broadcast_to(random_masks(1), (30, 64, 128)).copy()
    assert find_outlier_groups(make_tiles(30, masks)) == []


def test_document_by_hand() -> None:
    masks = np.zeros((2, 16, 16), np.uint8)
    masks[1, :4] = 3
    images = textured_images(2, height=16, width=16)
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    document = inspect_tiles(make_tiles(2, masks, images)).to_dict()
    assert document.pop("image_range") == {
        "min": 0.0,
        "max": 1.0,
        "mean": pytest.approx(images.mean() / 255),
    }
    assert json.loads(json.dumps(document)) == {
        "images": 2,
        "shape": [16, 16],
        "num_classes": 5,
        "pixels_per_class": [448, 0, 0, 64, 0],
        "images_per_class": [2, 0, 0, 1, 0],
        "uniform_masks": 1,
        "outlier_groups": [],
        "duplicate_groups": [],
        "duplicate_kinds": [],
        "frames": None,
        "clean": {"images": 2, "pixels_per_class": [448, 0, 0, 64, 0]},
    }


def test_course_file(course_tiles: Tiles) -> None:
    document = inspect_tiles(course_tiles).to_dict()
    assert [document[key] for key in ("images", "shape", "uniform_masks")] == [2615, [64, 128], 401]
    (group,) = document["outlier_groups"]
    assert len(group["indices"]) == 110
    assert len(np.unique(course_tiles.masks[group["indices"]].reshape(110, -1), axis=0)) == 1
    assert document["clean"] == {"images": 2505, "pixels_per_class": [4989815, 6954600, 4779265, 3770750, 26530]}


@pytest.mark.parametrize(("count", "size"), [(1, (132, 136)), (7, (792, 272)), (30, (792, 544))])
def test_contact_sheet_holds_image_above_mask(count: int, size: tuple[int, int]) -> None:
    tiles = make_tiles(count)
    sheet = render_group(tiles, tuple(range(count)))
    assert sheet.size == size
    pixels = np.asarray(sheet)
    assert np.array_equal(pixels[:64, :128, 0], np.rint(tiles.images[0] * 255))
    colours = pixels[65:129, :128][tiles.masks[0] == tiles.masks[0, 0, 0]]
    assert len(np.unique(colours, axis=0)) == 1
