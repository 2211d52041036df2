"""A training run so small that it takes seconds: ten tiles of 16x32 pixels, a network of the smallest depth."""

from typing import Any

import numpy as np
import pytest

from marsseg.config import ExperimentConfig
from marsseg.data.prepare import Fingerprint, PreparedData
from marsseg.data.split import Split


def tiny_data(num_train: int = 10) -> PreparedData:
    """Tiles whose brightness shows the class, with a little noise; `num_train` for training, four for validation."""
    rng = np.random.default_rng(0)
    masks = np.kron(rng.integers(0, 5, (num_train + 4, 4, 8)), np.ones((4, 4))).astype(np.uint8)
    images = (masks / 5 + rng.uniform(0, 0.2, masks.shape)).astype(np.float32)
    indices = np.arange(len(masks))
    split = Split(indices[:num_train], indices[num_train:], indices[:0])
    return PreparedData(images, masks, split, {}, 5, "tiny", Fingerprint("", "", "", "", ""))


def tiny_config(**groups: dict[str, Any]) -> ExperimentConfig:
    """Two blocks of four filters, three steps per epoch; the given groups' values are applied on top."""
    values: dict[str, Any] = {
        "model.num_blocks": 2,
        "model.base_filters": 4,
        "model.max_filters": 8,
        "training.batch_size": 4,
        "training.precision": "float32",
        "training.threads": 2,
    }
    for group, fields in groups.items():
        values |= {f"{group}.{name}": value for name, value in fields.items()}
    return ExperimentConfig().with_values(values)


@pytest.fixture(scope="session")
def data(tensorflow_runtime: int) -> PreparedData:
    """`tiny_data`, with TensorFlow set up to train on it."""
    return tiny_data()
