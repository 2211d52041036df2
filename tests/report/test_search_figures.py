"""The plot of a Pareto front: a staircase that rises with size, and no failure when there is little to draw."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from marsseg.report.search_figures import draw_pareto
from marsseg.search.objectives import SIZES

RED = (0xD6, 0x2F, 0x2F)


def trial(number: int, score: float, size: float, state: str = "completed", on_front: bool = False) -> dict[str, Any]:
    sizes = dict.fromkeys(SIZES, size)
    return {"trial": number, "state": state, "best_val_mean_iou": score, "on_front": on_front, **sizes}


def red_without_legend(path: Path) -> np.ndarray:
    """Rows and columns of the red pixels in the upper two thirds, as fractions of the image's height and width."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    found = np.argwhere((pixels == RED).all(axis=-1)) / pixels.shape[:2]
    return found[found[:, 0] < 2 / 3]


def test_the_front_is_a_staircase_up_to_the_right(tmp_path: Path) -> None:
    front = [trial(0, 0.5, 1e4, on_front=True), trial(1, 0.6, 1e5, on_front=True), trial(2, 0.7, 1e6, on_front=True)]
    draw_pareto(tmp_path / "pareto.png", [*front, trial(3, 0.1, 1e6), trial(4, 0.65, 2e4, "stopped")], ["params"])
    red = red_without_legend(tmp_path / "pareto.png")
    left, right = red[:, 1].min(), red[:, 1].max()
    assert right - left > 0.5
    # Row 0 is at the top.
    first, last = (red[(red[:, 1] >= a) & (red[:, 1] <= b)] for a, b in ((left, left + 0.1), (right - 0.1, right)))
    assert first[:, 0].min() > last[:, 0].min() + 0.1


@pytest.mark.parametrize("sizes", [("params",), ("flops",), SIZES])
def test_little_to_draw_is_no_trouble(tmp_path: Path, sizes: tuple[str, ...]) -> None:
    for name, trials in {
        "none completed": [trial(0, 0.5, 1e4, "stopped")],
        "one": [trial(0, 0.5, 1e4, on_front=True)],
        "all equal": [trial(number, 0.5, 1e4, on_front=True) for number in range(3)],
    }.items():
        draw_pareto(tmp_path / f"{name}.png", trials, sizes)
        pixels = np.asarray(Image.open(tmp_path / f"{name}.png"))
        assert pixels.shape[1] == 110 * (1 + 6 * len(sizes))
