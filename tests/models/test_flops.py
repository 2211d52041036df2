"""Operations counted by hand for each kind of layer."""

import keras
import pytest
from keras import layers

from marsseg.config import UNetConfig
from marsseg.models.unet import build_unet
from tests.models.flops import count_flops

pytestmark = pytest.mark.usefixtures("tensorflow_runtime", "float32_policy")


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (layers.Conv2D(5, 3, padding="same"), 2 * (8 * 6) * 9 * 4 * 5),
        (layers.Conv2D(5, 3, strides=2, padding="same"), 2 * (4 * 3) * 9 * 4 * 5),
        (layers.Conv2D(5, 3), 2 * (6 * 4) * 9 * 4 * 5),
        (layers.Conv2DTranspose(5, 2, strides=2), 2 * (8 * 6) * 4 * 4 * 5),
        (layers.Dense(7), 2 * (8 * 6) * 4 * 7),
        (layers.MaxPooling2D(), 0),
    ],
)
def test_each_kind_of_layer(layer: layers.Layer, expected: int) -> None:
    inputs = keras.Input((8, 6, 4))
    assert count_flops(keras.Model(inputs, layer(inputs))) == expected


def test_whole_network_by_hand() -> None:
    config = UNetConfig(num_blocks=2, base_filters=4, max_filters=8, upsampling="upsampling2d", se="bottleneck")
    model = build_unet(config, (16, 32, 1), 5)
    full, half, quarter = 512, 128, 32
    kernels = [
        (full, 9, 1, 4), (full, 9, 4, 4), (half, 9, 4, 8), (half, 9, 8, 8), (quarter, 9, 8, 8), (quarter, 9, 8, 8),
        (1, 1, 8, 2), (1, 1, 2, 8),
        (half, 4, 8, 8), (half, 9, 16, 8), (half, 9, 8, 8),
        (full, 4, 8, 4), (full, 9, 8, 4), (full, 9, 4, 4), (full, 1, 4, 5),
    ]  # fmt: skip
    assert count_flops(model) == sum(2 * pixels * area * a * b for pixels, area, a, b in kernels)
    twin = build_unet(config, (16, 32, 1), 5, portable=True)
    assert count_flops(twin) == count_flops(model)


def test_four_times_the_pixels_cost_four_times_as_much() -> None:
    config = UNetConfig(num_blocks=2, base_filters=4)
    assert count_flops(build_unet(config, (32, 64, 1), 5)) == 4 * count_flops(build_unet(config, (16, 32, 1), 5))
