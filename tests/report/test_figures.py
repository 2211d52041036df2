"""The figure of samples shows each image beside both of its masks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from marsseg.data.tiles import class_palette
from marsseg.report.figures import draw_samples

NAMES = ("background", "soil", "bedrock", "sand", "big_rock")


@pytest.mark.parametrize("shape", [(64, 128), (40, 24)])
def test_truth_stands_left_of_the_prediction(tmp_path: Path, shape: tuple[int, int]) -> None:
    images = np.full((2, *shape), 0.25, np.float32)
    # The brightest pixel of an image is drawn white.
    images[:, 0, 0] = 0.5
    truth, predictions = np.full((2, *shape), 1, np.uint8), np.full((2, *shape), 4, np.uint8)
    draw_samples(tmp_path / "samples.png", images, truth, predictions, NAMES)
    pixels = np.asarray(Image.open(tmp_path / "samples.png").convert("RGB"))
    soil, rock = (class_palette(5)[label] for label in (1, 4))
    # The legend at the bottom shows all colours as well.
    top = pixels[: len(pixels) * 4 // 5]
    expected_share = 0.2
    for color, (left, right) in ((soil, (1 / 3, 2 / 3)), (rock, (2 / 3, 1))):
        share = (top == color).all(axis=-1).mean(axis=0)
        columns = np.flatnonzero(share > expected_share) / top.shape[1]
        assert left - 0.03 < columns.min() < columns.max() < right + 0.03
        assert np.ptp(columns) > 0.2
    assert (top == 255).all(axis=-1)[:, : top.shape[1] // 3].mean() < 0.7, "the images fill the left third"
