"""The trainer in a program of the user's own."""

from pathlib import Path

import keras
import pytest

from marsseg.libraries.training import train
from tests.conftest import write_tiles
from tests.training.conftest import tiny_config


@pytest.mark.usefixtures("tensorflow_runtime")
def test_keras_keeps_the_users_settings(tmp_path: Path) -> None:
    data = {"source": str(write_tiles(tmp_path / "tiles.npz"))}
    keras.config.set_image_data_format("channels_first")
    try:
        result = train(tiny_config(data=data, training={"max_epochs": 1, "precision": "bfloat16"}))
        assert keras.config.image_data_format() == "channels_first"
        assert keras.layers.Dense(1).compute_dtype == "float32"
        assert result.model.get_layer("bottleneck_conv1").compute_dtype == "bfloat16"
    finally:
        keras.config.set_image_data_format("channels_last")
