"""What the data tests share: generated textures and images, and the real files where they are available."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
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


def save_picture(path: Path, pixels: np.ndarray) -> Path:
    """Saves an image file and creates its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def save_frame(
    image: Path, mask: Path, seed: int = 0, height: int = 128, width: int = 256, labels: tuple[int, ...] = (0, 1, 2, 3)
) -> None:
    """Saves a textured image and a mask of random blocks of 16 by 16 pixels."""
    save_picture(image, textured_images(1, seed, height, width)[0])
    chosen = np.random.default_rng(seed).choice(labels, (-(-height // 16), -(-width // 16)))
    save_picture(mask, np.kron(chosen, np.ones((16, 16), int))[:height, :width].astype(np.uint8))


def _real_data(name: str) -> Path:
    folder = os.environ.get("MARSEXP_TEST_DATA")
    path = Path(folder or "", name)
    if not folder or not path.exists():
        pytest.skip(f"MARSEXP_TEST_DATA does not name a folder with {name}")
    return path


@pytest.fixture(scope="session")
def course_file() -> Path:
    """The real tiles: 2,615, of which 110 are planted outliers."""
    return _real_data("mars_tiles.npz")


@pytest.fixture(scope="session")
def ai4mars_sample() -> Path:
    """Six of Curiosity's frames with their labels, as AI4Mars has them."""
    return _real_data("ai4mars_sample")


@pytest.fixture(scope="session")
def course_tiles(course_file: Path) -> Tiles:
    return load_tiles(course_file)
