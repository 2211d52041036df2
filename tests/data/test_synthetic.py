"""Synthetic terrain: the guarantees of a generated data set, for any seed and size."""

from collections import Counter

import numpy as np
import pytest

from marsseg.data.synthetic import Terrain, generate_terrain
from marsseg.errors import DataError


@pytest.fixture(scope="module")
def terrain() -> Terrain:
    return generate_terrain()


def mask_counts(masks: np.ndarray) -> Counter[bytes]:
    """How often each mask of more than one class occurs."""
    return Counter(mask.tobytes() for mask in masks if mask.min() != mask.max())


def test_default_set_has_600_tiles_of_the_course_size_with_labels_0_to_4(terrain: Terrain) -> None:
    assert terrain.images.shape == terrain.masks.shape == (600, 64, 128)
    assert terrain.images.dtype == terrain.masks.dtype == np.uint8
    assert set(np.unique(terrain.masks)) == {0, 1, 2, 3, 4}
    assert terrain.outlier_indices == ()
    assert terrain.images.std(axis=(1, 2)).min() > 1


def test_pixel_shares_are_near_the_course(terrain: Terrain) -> None:
    shares = np.bincount(terrain.masks.ravel(), minlength=5) / terrain.masks.size
    np.testing.assert_allclose(shares[:4], [0.243, 0.339, 0.233, 0.184], atol=0.04)
    assert 0.0008 < shares[4] < 0.0035


def test_big_rock_is_in_every_part_of_the_set(terrain: Terrain) -> None:
    has_big_rock = (terrain.masks == 4).any(axis=(1, 2))
    assert 0.04 < has_big_rock.mean() < 0.08
    assert all(part.any() for part in np.array_split(has_big_rock, 10))


def test_uniform_masks_are_all_soil_bedrock_or_sand(terrain: Terrain) -> None:
    uniform = [mask[0, 0] for mask in terrain.masks if mask.min() == mask.max()]
    assert 0.10 < len(uniform) / 600 < 0.15
    assert set(uniform) == {1, 2, 3}


def test_brightness_alone_does_not_give_the_class(terrain: Terrain) -> None:
    counts = [np.bincount(terrain.images[terrain.masks == label], minlength=256) for label in (1, 2, 3, 4)]
    accuracy_of_best_lookup = np.max(counts, axis=0).sum() / np.sum(counts)
    assert accuracy_of_best_lookup < 0.55


def test_tile_depends_on_seed_and_index_not_on_num_images(terrain: Terrain) -> None:
    fewer = generate_terrain(num_images=5)
    np.testing.assert_array_equal(fewer.images, terrain.images[:5])
    np.testing.assert_array_equal(fewer.masks, terrain.masks[:5])
    assert not np.array_equal(generate_terrain(num_images=5, seed=1).images, fewer.images)


def test_no_mask_of_several_classes_repeats(terrain: Terrain) -> None:
    assert max(mask_counts(terrain.masks).values()) == 1


def test_outliers_share_one_mask_and_leave_the_other_tiles_alone() -> None:
    clean, planted = (generate_terrain(40, 32, 64, seed=3, outliers=k) for k in (0, 6))
    outliers = sorted(set(planted.outlier_indices))
    others = np.setdiff1d(np.arange(40), outliers)
    assert len(outliers) == 6
    assert len(np.unique(planted.masks[outliers[0]])) > 1
    assert sorted(mask_counts(planted.masks).values())[-2:] == [1, 6]
    assert (planted.masks[outliers] == planted.masks[outliers[0]]).all()
    assert (planted.images[outliers] != clean.images[outliers]).any(axis=(1, 2)).all()
    np.testing.assert_array_equal(planted.images[others], clean.images[others])
    np.testing.assert_array_equal(planted.masks[others], clean.masks[others])


@pytest.mark.parametrize(("height", "width"), [(16, 16), (32, 64), (50, 33), (16, 90)])
def test_any_size_from_16_works(height: int, width: int) -> None:
    small = generate_terrain(num_images=30, height=height, width=width, outliers=1)
    assert small.images.shape == small.masks.shape == (30, height, width)
    assert set(np.unique(small.masks)) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    "wrong", [{"num_images": 0}, {"height": 15}, {"width": 0}, {"seed": -1}, {"outliers": -1}, {"outliers": 3}]
)
def test_arguments_out_of_range_are_refused_in_one_line(wrong: dict[str, int]) -> None:
    with pytest.raises(DataError, match=rf"\A.*{next(iter(wrong))}.*\Z"):
        generate_terrain(**({"num_images": 2} | wrong))
