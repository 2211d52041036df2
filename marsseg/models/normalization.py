"""Batch normalisation on TensorFlow's fused kernel.

Keras computes the same result from moments, which makes a whole U-Net step about twice as slow on a CPU.
"""

from typing import Any

import keras
import tensorflow as tf

_KERNEL_CHANNELS = 16


@keras.saving.register_keras_serializable("marsseg")
class FusedBatchNormalization(keras.layers.Layer):
    """Batch normalisation (Ioffe & Szegedy, 2015, arXiv 1502.03167) over batch, height and width.

    Same weights, in the same order, and the same numbers as `keras.layers.BatchNormalization`; statistics are float32
    whatever the precision of the input is.

    Args:
        momentum: Fraction of the moving statistics that a step keeps.
        epsilon: Added to the variance.

    Input shape: (batch, height, width, channels). Output shape: the same.
    """

    def __init__(self, momentum: float = 0.99, epsilon: float = 1e-3, **kwargs: Any) -> None:
        # The kernel needs its input in the compute type, but scale and statistics in float32.
        super().__init__(autocast=False, **kwargs)
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates scale, offset and moving statistics, each of shape (channels,)."""
        # Not cast, since the kernel needs float32: Keras casts weights where this layer is the outermost one called, or
        # is in a model whose own policy is float32, even though the layer's autocast is off.
        settings = {"shape": (input_shape[-1],), "dtype": "float32", "autocast": False}
        self.gamma = self.add_weight(initializer="ones", name="gamma", **settings)
        self.beta = self.add_weight(initializer="zeros", name="beta", **settings)
        self.moving_mean = self.add_weight(initializer="zeros", name="moving_mean", trainable=False, **settings)
        self.moving_variance = self.add_weight(initializer="ones", name="moving_variance", trainable=False, **settings)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Normalises with the batch's statistics in training, otherwise with the moving statistics."""
        # On a CPU, bfloat16 with other numbers of channels takes a path that is ten times slower.
        kernel_dtype = self.compute_dtype if inputs.shape[-1] % _KERNEL_CHANNELS == 0 else "float32"
        inputs = tf.cast(tf.cast(inputs, self.compute_dtype), kernel_dtype)
        mean, variance = (
            (tf.zeros([0]), tf.zeros([0])) if training else (self.moving_mean.value, self.moving_variance.value)
        )
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma.value,
            offset=self.beta.value,
            mean=mean,
            variance=variance,
            epsilon=self.epsilon,
            is_training=training,
        )
        if training:
            # The kernel divides by n - 1, Keras by n.
            biased = variance * (1 - inputs.shape[-1] / tf.cast(tf.size(inputs), tf.float32))
            for moving, statistic in ((self.moving_mean, mean), (self.moving_variance, biased)):
                before = moving.value
                moving.assign(before + (statistic - before) * (1 - self.momentum))
        return tf.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config: dict[str, Any] = super().get_config()
        # `autocast` is not an argument here: it is always off.
        config.pop("autocast", None)
        return {**config, "momentum": self.momentum, "epsilon": self.epsilon}
