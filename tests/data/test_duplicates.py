import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from marsseg.data import duplicates
from marsseg.data.clean import outlier_indices
from marsseg.data.duplicates import near_duplicate_groups
from marsseg.data.tiles import Tiles
from tests.data.conftest import textured_images


def unit(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / np.float32(255)


def recompressed(images: np.ndarray) -> np.ndarray:
    def one(image: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=60)
        return np.asarray(Image.open(buffer))

    return np.stack([one(image) for image in images])


def noisy(images: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 3, images.shape)
    return np.clip(images + noise, 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "equal": lambda images: images,
    "noise": noisy,
    "brighter": lambda images: np.clip(images + 25.0, 0, 255).astype(np.uint8),
    "contrast": lambda images: (images * 0.7).astype(np.uint8),
    "recompressed": recompressed,
}


def with_spot(images: np.ndarray) -> np.ndarray:
    row, column = np.mgrid[:64, :128]
    spot = 60 * np.exp(-(((column - 90) / 20) ** 2 + ((row - 20) / 15) ** 2))
    return np.clip(images + spot, 0, 255).astype(np.uint8)


def with_box(images: np.ndarray) -> np.ndarray:
    changed = images.copy()
    for index, image in enumerate(changed):
        # At varying places: at one place the box itself would be what the images have in common.
        top, left = index * 7 % 40, index * 29 % 88
        image[top : top + 24, left : left + 40] = 255
    return changed


def with_border(images: np.ndarray) -> np.ndarray:
    changed = np.zeros_like(images)
    changed[:, 4:-4, 4:-4] = images[:, 4:-4, 4:-4]
    return changed


def with_a_quarter_of_another(images: np.ndarray) -> np.ndarray:
    changed = images.copy()
    changed[:, :, :32] = np.roll(images, 7, axis=0)[:, :, :32]
    return changed


COVERS = [with_spot, with_box, with_border, with_a_quarter_of_another]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_nothing_else(change: str) -> None:
    images = textured_images(60)
    copies = CHANGES[change](images[:20])
    groups = near_duplicate_groups(unit(np.concatenate([images, copies])))
    assert groups == [[index, 60 + index] for index in range(20)]


@pytest.mark.parametrize("change", CHANGES)
def test_real_changed_copies_are_found(change: str, course_tiles: Tiles) -> None:
    images = np.rint(course_tiles.images[::10] * 255).astype(np.uint8)
    count = len(images)
    groups = near_duplicate_groups(unit(np.concatenate([images, CHANGES[change](images)])))
    found = sum(any({index, index + count} <= set(group) for group in groups) for index in range(count))
    assert found >= 0.98 * count
    assert max(map(len, groups)) <= 4


@pytest.mark.parametrize("cover", COVERS)
def test_copies_that_are_covered_in_a_part_are_found_and_nothing_else(cover: Callable[..., np.ndarray]) -> None:
    images = textured_images(60)
    groups = near_duplicate_groups(unit(np.concatenate([images, cover(images)])))
    assert len(groups) >= 50
    assert all(group == [group[0], group[0] + 60] for group in groups)


def found_copies(images: np.ndarray, cover: Callable[..., np.ndarray]) -> int:
    count = len(images)
    groups = near_duplicate_groups(unit(np.concatenate([images, cover(images)])))
    return sum(any({index, index + count} <= set(group) for group in groups) for index in range(count))


def test_each_hash_finds_real_copies_that_the_others_miss(course_tiles: Tiles, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.rint(course_tiles.images[::40] * 255).astype(np.uint8)
    of_all = [found_copies(images, cover) for cover in COVERS]
    assert sum(of_all) >= 0.9 * len(COVERS) * len(images)
    for kind in duplicates.MAX_HASH_DISTANCES:
        others = {name: limit for name, limit in duplicates.MAX_HASH_DISTANCES.items() if name != kind}
        monkeypatch.setattr(duplicates, "MAX_HASH_DISTANCES", others)
        assert sum(found_copies(images, cover) for cover in COVERS) < sum(of_all)
        monkeypatch.undo()


def test_real_tiles_have_few_and_small_groups(course_tiles: Tiles) -> None:
    groups = near_duplicate_groups(course_tiles.images)
    assert max(map(len, groups)) <= 3
    outliers = set(outlier_indices(course_tiles))
    # The images show the same ledge from slightly nearer, and the same outcrop a moment later.
    assert [tuple(group) for group in groups if not outliers & set(group)] == [(725, 2264), (1261, 1296)]
    # The faces were drawn on copies of tiles that are in the data set, too.
    assert 80 <= len(groups) - 2 <= 110


def test_synthetic_terrain_has_no_groups() -> None:
    from marsseg.data.synthetic import generate_terrain

    assert near_duplicate_groups(unit(generate_terrain(80).images)) == []


def test_groups_are_connected_components() -> None:
    image = textured_images(1)
    copies = np.concatenate([image, noisy(image), textured_images(2, seed=5), image, recompressed(image)])
    assert near_duplicate_groups(unit(copies)) == [[0, 1, 4, 5]]


def test_flat_tiles_match_their_exact_copies_only() -> None:
    levels = np.array([0, 40, 0, 41, 255, 41], np.uint8)
    images = unit(np.broadcast_to(levels[:, None, None], (6, 32, 32)))
    assert near_duplicate_groups(images) == [[0, 2], [3, 5]]


def test_many_copies_of_one_image_are_one_group() -> None:
    image = textured_images(1)[0]
    images = np.clip(image + np.random.default_rng(0).normal(0, 2, (300, 64, 128)), 0, 255).astype(np.uint8)
    assert near_duplicate_groups(unit(images)) == [list(range(300))]


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_to_compare(count: int) -> None:
    assert near_duplicate_groups(unit(textured_images(count))) == []


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 45), (100, 70)])
def test_other_sizes(height: int, width: int) -> None:
    images = textured_images(20, height=height, width=width)
    assert near_duplicate_groups(unit(np.concatenate([images, images[:1]]))) == [[0, 20]]
