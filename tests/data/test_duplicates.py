import io
import time
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

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


def test_real_tiles_have_few_and_small_groups(course_tiles: Tiles) -> None:
    started = time.perf_counter()
    groups = near_duplicate_groups(course_tiles.images)
    assert time.perf_counter() - started < 15
    assert len(groups) < 30
    assert max(map(len, groups)) <= 3
    # The same ledge from a little nearer, and the same outcrop a moment later, as seen in the pictures.
    assert {(725, 2264), (1261, 1296)} <= {tuple(group) for group in groups}


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
