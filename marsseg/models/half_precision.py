"""Convolutions and matrix products in half precision: bias gradients summed in float32, and upcasts on some CPUs.

Layers with the same weights and the same function as Keras' own, but for two things. On a CPU, TensorFlow sums the
gradient of `BiasAdd` in bfloat16, where a sum of ones does not grow beyond 256 or 512, and that of a broadcast addition
in float16; here both are summed in float32. And where TensorFlow convolves in half precision without oneDNN, a step
takes twelve times as long as in float32; under an `UpcastPolicy` these layers round their operands to half precision,
multiply and sum in float32, and round the result, forward and backward. Instructions for bfloat16 do the same, and so
does the emulation of Kalamkar et al. (2019, arXiv 1905.12322).
"""

from typing import TypeVar

import keras
import tensorflow as tf
from keras import layers

_HALF = ("bfloat16", "float16")
_Layer = TypeVar("_Layer", bound=layers.Layer)


@keras.saving.register_keras_serializable("marsseg")
class UpcastPolicy(keras.DTypePolicy):
    """A policy of mixed precision under which this module's layers compute in float32, from rounded operands."""


@keras.saving.register_keras_serializable("marsseg")
class HalfConv2D(layers.Conv2D):
    """`keras.layers.Conv2D` in half precision; shapes and errors are those of Keras' layer."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolves."""
        return _finish(self, self.convolution_op(_operand(self, inputs), _operand(self, self.kernel)))


@keras.saving.register_keras_serializable("marsseg")
class HalfConv2DTranspose(layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` in half precision; shapes and errors are those of Keras' layer."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolves."""
        outputs = keras.ops.conv_transpose(
            _operand(self, inputs),
            _operand(self, self.kernel),
            self.strides,
            self.padding,
            self.output_padding,
            self.data_format,
            self.dilation_rate,
        )
        return _finish(self, outputs)


@keras.saving.register_keras_serializable("marsseg")
class HalfDense(layers.Dense):
    """`keras.layers.Dense` in half precision; shapes and errors are those of Keras' layer."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Multiplies."""
        return _finish(self, keras.ops.matmul(_operand(self, inputs), _operand(self, self.kernel)))


def conv2d_class() -> type[layers.Conv2D]:
    """The layer for any convolution under the current precision policy."""
    return _of_policy(layers.Conv2D, HalfConv2D)


def conv2d_transpose_class() -> type[layers.Conv2DTranspose]:
    """The layer for any transposed convolution under the current precision policy."""
    return _of_policy(layers.Conv2DTranspose, HalfConv2DTranspose)


def dense_class() -> type[layers.Dense]:
    """The layer for any matrix product under the current precision policy."""
    return _of_policy(layers.Dense, HalfDense)


def is_upcast() -> bool:
    """Whether the current precision policy is an `UpcastPolicy`."""
    return isinstance(keras.config.dtype_policy(), UpcastPolicy)


def add_bias(layer: layers.Conv2D | layers.Conv2DTranspose | layers.Dense, outputs: tf.Tensor) -> tf.Tensor:
    """Adds a layer's bias, if it has one, such that the bias's gradient is summed in float32."""
    if not layer.use_bias:
        return outputs
    bias = tf.convert_to_tensor(layer.bias)
    # On a CPU, TensorFlow sums the gradient of the first in bfloat16 and of the second in float16.
    return tf.nn.bias_add(outputs, bias) if bias.dtype == tf.float16 else outputs + bias


def _of_policy(keras_own: type[_Layer], half: type[_Layer]) -> type[_Layer]:
    return half if keras.config.dtype_policy().compute_dtype in _HALF else keras_own


def _operand(layer: layers.Layer, operand: tf.Tensor | keras.Variable) -> tf.Tensor:
    """Rounded to the layer's compute type, as a tensor of the type to compute in."""
    rounded = tf.convert_to_tensor(operand)
    return tf.cast(rounded, tf.float32) if isinstance(layer.dtype_policy, UpcastPolicy) else rounded


def _finish(layer: HalfConv2D | HalfConv2DTranspose | HalfDense, outputs: tf.Tensor) -> tf.Tensor:
    """Rounds a product, then adds the bias and applies the activation."""
    return layer.activation(add_bias(layer, tf.cast(outputs, layer.compute_dtype)))
