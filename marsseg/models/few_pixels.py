"""Convolutions of feature maps with few pixels, as matrix multiplications (matmul).

At the bottom of a deep U-Net a convolution's kernel is larger than its image. Reordering the kernel's memory layout for
each of a step's three passes (oneDNN reorder), as the CPU does for large images, then takes several times as long as
the computation.
"""

from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray

from marsseg.models.half_precision import add_bias, conv2d_class, conv2d_transpose_class, is_upcast

# The most pixels for which matmul was faster, forward and backward together, by the type that is computed in.
_FEW_TO_CONVOLVE = {"bfloat16": 32, "float32": 8}
_FEW_TO_UPSAMPLE = {"bfloat16": 128, "float32": 32}


@keras.saving.register_keras_serializable("marsseg")
class MatmulConv2D(layers.Conv2D):
    """`keras.layers.Conv2D` with stride 1 and padded borders: the same weights, the same function.

    A constant 0/1 matrix gathers the patches (im2col), so that a second matmul is the convolution. Its gradients are
    matmuls too; in half precision the input's gradient is rounded once more, before the patches' contributions are
    summed.

    Input shape: (batch, height, width, channels), all but the batch known. Output shape: (batch, height, width,
    filters).

    Raises:
        ValueError: If the arguments are not supported.
    """

    def __init__(self, filters: int, kernel_size: int | tuple[int, int], **settings: Any) -> None:
        super().__init__(filters, kernel_size, **settings)
        plain = self.strides == (1, 1) and self.padding == "same" and self.groups == 1
        if not plain or self.activation is not keras.activations.linear:
            raise ValueError("MatmulConv2D: expected stride 1, padding 'same', one group and no activation")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Gathers the patches, then multiplies."""
        height, width, channels = inputs.shape[1:]
        picks = tf.constant(_picks((height, width), self.kernel_size, self.dilation_rate), inputs.dtype)
        under_kernel = tf.matmul(picks, tf.reshape(inputs, [-1, height * width, channels]))
        kernel = tf.reshape(tf.convert_to_tensor(self.kernel), [-1, self.filters])
        outputs = tf.matmul(tf.reshape(under_kernel, [-1, kernel.shape[0]]), kernel)
        return tf.reshape(add_bias(self, outputs), [-1, height, width, self.filters])


@keras.saving.register_keras_serializable("marsseg")
class MatmulConv2DTranspose(layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` with a kernel as large as its stride of 2: the same weights, the same function.

    Input shape: (batch, height, width, channels), all but the batch known. Output shape: (batch, 2·height, 2·width,
    filters).

    Raises:
        ValueError: If the arguments are not supported.
    """

    def __init__(self, filters: int, kernel_size: int | tuple[int, int], **settings: Any) -> None:
        super().__init__(filters, kernel_size, **settings)
        plain = self.kernel_size == self.strides == (2, 2) and self.output_padding is None
        if not plain or self.activation is not keras.activations.linear:
            raise ValueError(
                "MatmulConv2DTranspose: expected kernel size 2, stride 2, no output padding and no activation"
            )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Multiplies, then moves the four pixels that each pixel has become to their positions."""
        height, width, channels = inputs.shape[1:]
        kernel = tf.reshape(tf.convert_to_tensor(self.kernel), [-1, channels])
        outputs = tf.matmul(tf.reshape(inputs, [-1, channels]), kernel, transpose_b=True)
        outputs = tf.nn.depth_to_space(tf.reshape(outputs, [-1, height, width, kernel.shape[0]]), 2)
        return add_bias(self, outputs)


def fastest_conv2d_class(inputs: keras.KerasTensor, portable: bool) -> type[layers.Conv2D]:
    """The fastest layer to convolve these feature maps, with stride 1 and padded borders; if portable, Keras' own."""
    return MatmulConv2D if not portable and _are_few(inputs, _FEW_TO_CONVOLVE) else conv2d_class()


def fastest_conv2d_transpose_class(inputs: keras.KerasTensor, portable: bool) -> type[layers.Conv2DTranspose]:
    """The fastest layer to double these feature maps' sides, with a kernel of 2×2; if portable, Keras' own."""
    few = not portable and _are_few(inputs, _FEW_TO_UPSAMPLE)
    return MatmulConv2DTranspose if few else conv2d_transpose_class()


def _are_few(inputs: keras.KerasTensor, most: dict[str, int]) -> bool:
    pixels: int = inputs.shape[1] * inputs.shape[2]
    return not is_upcast() and pixels <= most.get(keras.config.dtype_policy().compute_dtype, 0)


@cache
def _picks(sides: tuple[int, int], kernel_size: tuple[int, int], dilation_rate: tuple[int, int]) -> NDArray[np.int8]:
    """1 where a row (an output pixel and a kernel position) gathers a column (the input pixel there), otherwise 0."""
    rows, columns = map(_picks_along, sides, kernel_size, dilation_rate)
    picks = rows[:, None, :, None, :, None] * columns[None, :, None, :, None, :]
    return picks.reshape(-1, sides[0] * sides[1])


def _picks_along(side: int, kernel_size: int, dilation_rate: int) -> NDArray[np.int8]:
    """The same along one side, shape (side, kernel_size, side); beyond the border nothing is gathered."""
    first = -(dilation_rate * (kernel_size - 1) // 2)
    places = np.arange(side)[:, None] + first + dilation_rate * np.arange(kernel_size)
    picks: NDArray[np.int8] = (places[:, :, None] == np.arange(side)).astype(np.int8)
    return picks
