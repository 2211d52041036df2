"""Convolutions in half precision on CPUs that have no fast ones: computed in float32, from rounded operands.

There, TensorFlow convolves bfloat16 and float16 without oneDNN, at a twelfth of float32's speed.
"""

import keras
import tensorflow as tf
from keras import layers


class UpcastPolicy(keras.DTypePolicy):
    """A mixed-precision policy under which convolutions are upcast to float32."""


class UpcastConv2D(layers.Conv2D):
    """`keras.layers.Conv2D`: the same weights, the same function.

    Operands and result are rounded to the layer's compute type, and sums are in float32, as in native instructions: the
    emulation of Kalamkar et al. (2019, arXiv 1905.12322). So are the gradients'.

    Shapes and errors are those of Keras' layer.
    """

    def convolution_op(self, inputs: tf.Tensor, kernel: keras.Variable) -> tf.Tensor:
        """Called by Keras' layer, which adds bias and activation."""
        return tf.cast(super().convolution_op(_upcast(inputs), _upcast(kernel)), self.compute_dtype)


class UpcastConv2DTranspose(layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` without activation: the same weights, the same function, as in `UpcastConv2D`."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolves in float32, then adds the bias in the compute type."""
        outputs = keras.ops.conv_transpose(_upcast(inputs), _upcast(self.kernel), self.strides, self.padding)
        outputs = tf.cast(outputs, self.compute_dtype)
        return tf.nn.bias_add(outputs, tf.convert_to_tensor(self.bias)) if self.use_bias else outputs


def plain_conv2d_class() -> type[layers.Conv2D]:
    """The layer for any convolution under the current precision policy."""
    return UpcastConv2D if is_upcast() else layers.Conv2D


def plain_conv2d_transpose_class() -> type[layers.Conv2DTranspose]:
    """The layer for any transposed convolution under the current precision policy."""
    return UpcastConv2DTranspose if is_upcast() else layers.Conv2DTranspose


def is_upcast() -> bool:
    """Whether the current precision policy is an `UpcastPolicy`."""
    return isinstance(keras.config.dtype_policy(), UpcastPolicy)


def _upcast(operand: tf.Tensor | keras.Variable) -> tf.Tensor:
    """To float32; a variable becomes a tensor of the layer's compute type first, and is rounded by that."""
    return tf.cast(tf.convert_to_tensor(operand), tf.float32)
