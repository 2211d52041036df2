"""The amount of training data, and that modelled costs follow it."""

from pathlib import Path

import numpy as np
import pytest

from marsseg.config import ExperimentConfig
from marsseg.data.prepare import prepare_data
from marsseg.jobs.data_size import DataSize
from marsseg.jobs.forecast import expected_spending
from marsseg.search.budget import Budget
from tests.conftest import write_tiles
from tests.jobs.toy_study import build_settings

CONFIG = ExperimentConfig().with_values({"training.precision": "float32", "training.batch_size": 1})


def test_size_is_that_of_the_parts_and_of_the_images_with_the_rarest_class(tmp_path: Path) -> None:
    data = prepare_data(CONFIG.with_values({"data.source": str(write_tiles(tmp_path / "tiles.npz"))}))
    size = DataSize.of(data)
    masks = data.masks[data.split.train]
    assert (size.image_shape, size.train_images, size.validation_images) == ((32, 64), 32, 4)
    pixels = np.bincount(masks.ravel(), minlength=5)
    rarest = min((label for label in range(1, 5) if pixels[label]), key=lambda label: int(pixels[label]))
    assert 0 < size.rare_images == sum((mask == rarest).any() for mask in masks) < 32


def test_an_epoch_costs_what_its_images_cost_those_that_come_again_included() -> None:
    size = DataSize((32, 64), train_images=100, validation_images=20, rare_images=25)
    validation = DataSize((32, 64), train_images=0, validation_images=20).cost(CONFIG).epoch
    once, often = (
        size.cost(CONFIG.with_values({"augmentation.repeat_rare": repeat})).epoch - validation for repeat in (0, 4)
    )
    assert often == pytest.approx(2 * once)
    assert size.cost(CONFIG).start > 0


def test_a_batch_is_no_larger_than_an_epoch() -> None:
    size = DataSize((32, 64), train_images=16, validation_images=4, rare_images=4)
    huge, whole = (CONFIG.with_values({"training.batch_size": images}) for images in (512, 16))
    assert size.cost(huge) == size.cost(whole)
    assert size.as_trained(huge) == whole
    assert size.as_trained(huge.with_values({"augmentation.repeat_rare": 2})).training.batch_size == 24


def test_very_many_epochs_are_planned_several_at_a_time() -> None:
    size = DataSize((32, 64), train_images=16, validation_images=4)
    few, many = (
        expected_spending(build_settings(scheduler="none", budget=Budget(3), max_epochs=epochs), size)
        for epochs in (54, 5400)
    )
    assert (few.epochs, many.epochs) == (pytest.approx(3 * 54), pytest.approx(3 * 5400))
    assert many.cost == pytest.approx(100 * few.cost)
