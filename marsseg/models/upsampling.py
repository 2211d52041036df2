"""Upsampling without weights, in few operations."""

from typing import Any

import keras
import tensorflow as tf
from keras import layers


@keras.saving.register_keras_serializable("marsseg")
class NearestUpSampling2D(layers.UpSampling2D):
    """`keras.layers.UpSampling2D` with its defaults: each pixel becomes four.

    Keras repeats pixels with a dozen operations for each side and as many for their gradients, all of which have to be
    traced; here each pixel, then each row, is concatenated with itself.

    Input shape: (batch, height, width, channels), all but the batch known. Output shape: (batch, 2·height, 2·width,
    channels).

    Raises:
        ValueError: If the arguments are not supported.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(2, **settings)
        if self.interpolation != "nearest" or self.data_format != "channels_last":
            raise ValueError("NearestUpSampling2D: expected nearest interpolation, channels last")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Doubles the width, then the height."""
        height, width, channels = inputs.shape[1:]
        wide = tf.reshape(tf.concat([inputs, inputs], -1), [-1, height, 1, 2 * width * channels])
        return tf.reshape(tf.concat([wide, wide], 2), [-1, 2 * height, 2 * width, channels])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config: dict[str, Any] = super().get_config()
        return {key: value for key, value in config.items() if key not in ("size", "data_format", "interpolation")}
