"""Tiles that the data tests share: textured ones made here, and the real course-sized file where it is at hand."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from marsseg.data.sources import load_tiles
from marsseg.data.tiles import Tiles


def textured_images(count: int, seed: int = 0, height: int = 64, width: int = 128) -> np.ndarray:
    """Unrelated 8-bit textures."""
    noise = np.random.default_rng(seed).normal(size=(count, height, width))
    smooth = ndimage.gaussian_filter(noise, (0, 2.5, 2.5)) * 250
    return np.clip(smooth + 110, 0, 255).astype(np.uint8)


def random_masks(count: int, seed: int = 0, height: int = 64, width: int = 128, num_classes: int = 5) -> np.ndarray:
    """Masks of a few regions each, no two alike; class 4 in every eighth only."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, height, width), np.uint8)
    for index, mask in enumerate(masks):
        labels = rng.integers(0, min(num_classes, 4), 4)
        row, column = rng.integers(4, height - 4), rng.integers(4, width - 4)
        mask[:row, :column], mask[row:, :column], mask[:row, column:], mask[row:, column:] = labels
        mask[rng.integers(0, height), rng.integers(0, width)] = 1
        if index % 8 == 0 and num_classes > 4:
            mask[:3, :3] = 4
    return masks


@pytest.fixture(scope="session")
def course_file() -> Path:
    """The real tiles, 110 of 2,615 planted outliers."""
    folder = os.environ.get("MARSEXP_TEST_DATA")
    path = Path(folder or "", "mars_tiles.npz")
    if not folder or not path.exists():
        pytest.skip("MARSEXP_TEST_DATA does not name a folder with mars_tiles.npz")
    return path


@pytest.fixture(scope="session")
def course_tiles(course_file: Path) -> Tiles:
    return load_tiles(course_file)
