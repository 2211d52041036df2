"""Building blocks of the networks: convolutions with normalisation, upsampling, dropout.

Each is a function from a Keras tensor to a Keras tensor, and each layer gets an explicit name, so that weights have
the same paths in every process. Attention lives in `attention.py`, the networks themselves in `unet.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
from keras import layers

from marsseg.config import UNetConfig
from marsseg.models.few_pixels import fastest_conv2d_class, fastest_conv2d_transpose_class
from marsseg.models.half_precision import dense_class
from marsseg.models.normalization import FusedBatchNormalization
from marsseg.models.sizes import PLAIN_RATES, fitting_rates
from marsseg.models.upsampling import NearestUpSampling2D

_KERNEL_INITIALIZER = "he_normal"
# The first rung is compared after a hundred steps or so, when Keras' default of 0.99 would still hold 40 % of the
# statistics that the network started with; averaging the weights smooths the noise that 0.9 leaves.
_MOMENTUM = 0.9
_EPSILON = 1e-3


@dataclass(frozen=True)
class BlockStyle:
    """The settings that all blocks of one network share.

    Args:
        config: The network's config.
        seed: Random seed of the dropout masks.
        portable: Uses only Keras' own layers, so that a saved model loads where this package is absent.
    """

    config: UNetConfig
    seed: int
    portable: bool = False


def conv_block(
    inputs: keras.KerasTensor,
    filters: int,
    style: BlockStyle,
    name: str,
    dilation_rates: Sequence[int] = PLAIN_RATES,
) -> keras.KerasTensor:
    """3×3 convolutions, each followed by normalisation and ReLU (Ronneberger et al., 2015, arXiv 1505.04597).

    Differs from the paper: the borders are padded, and there is normalisation. With rates above 1 the convolutions are
    dilated (Yu & Koltun, 2015, arXiv 1511.07122). A residual block adds its input, projected where the channels differ,
    before the last ReLU (He et al., 2015, arXiv 1512.03385).

    Args:
        inputs: Shape (batch, height, width, channels).
        filters: Channels of the result.
        style: The settings that all blocks share.
        name: Prefix of the layers' names.
        dilation_rates: One per convolution, the paper's two by default; reduced where feature maps are too small.

    Returns:
        Shape (batch, height, width, filters).
    """
    outputs = inputs
    rates = fitting_rates(dilation_rates, inputs.shape[1:3])
    for index, rate in enumerate(rates):
        conv2d = fastest_conv2d_class(outputs, style.portable)
        outputs = conv2d(
            filters,
            3,
            padding="same",
            dilation_rate=rate,
            use_bias=style.config.normalization == "none",
            kernel_initializer=_KERNEL_INITIALIZER,
            name=f"{name}_conv{index}",
        )(outputs)
        outputs = normalize(outputs, style, f"{name}_norm{index}")
        if style.config.residual and index == len(rates) - 1:
            outputs = layers.Add(name=f"{name}_add")([outputs, _project(inputs, filters, style, f"{name}_shortcut")])
        outputs = layers.ReLU(name=f"{name}_relu{index}")(outputs)
    return outputs


def _project(inputs: keras.KerasTensor, filters: int, style: BlockStyle, name: str) -> keras.KerasTensor:
    """The wanted number of channels, by a 1×1 convolution if it differs; as a matrix multiplication it is faster."""
    if inputs.shape[-1] == filters:
        return inputs
    dense = dense_class()
    projection = dense(
        filters, use_bias=style.config.normalization == "none", kernel_initializer=_KERNEL_INITIALIZER, name=name
    )
    return normalize(projection(inputs), style, f"{name}_norm")


def normalize(inputs: keras.KerasTensor, style: BlockStyle, name: str) -> keras.KerasTensor:
    """Normalises as the config says.

    Args:
        inputs: Shape (batch, height, width, channels).
        style: The settings that all blocks share.
        name: The layer's name.

    Returns:
        The same shape.
    """
    if style.config.normalization == "none":
        return inputs
    normalization = layers.BatchNormalization if style.portable else FusedBatchNormalization
    return normalization(momentum=_MOMENTUM, epsilon=_EPSILON, name=name)(inputs)


def upsample(inputs: keras.KerasTensor, filters: int, style: BlockStyle, name: str) -> keras.KerasTensor:
    """Doubles height and width.

    Without a bias where the block after it normalises, which would remove a constant again.

    Args:
        inputs: Shape (batch, height, width, channels).
        filters: Channels of the result.
        style: The settings that all blocks share.
        name: Prefix of the layers' names.

    Returns:
        Shape (batch, 2·height, 2·width, filters).
    """
    settings = {"use_bias": style.config.normalization == "none", "kernel_initializer": _KERNEL_INITIALIZER}
    if style.config.upsampling == "conv2d_transpose":
        conv2d_transpose = fastest_conv2d_transpose_class(inputs, style.portable)
        return conv2d_transpose(filters, 2, strides=2, name=f"{name}_transpose", **settings)(inputs)
    upsampling = layers.UpSampling2D if style.portable else NearestUpSampling2D
    larger = upsampling(name=f"{name}_resize")(inputs)
    conv2d = fastest_conv2d_class(larger, style.portable)
    return conv2d(filters, 2, padding="same", name=f"{name}_conv", **settings)(larger)


def dropout(inputs: keras.KerasTensor, style: BlockStyle, position: int, name: str) -> keras.KerasTensor:
    """Drops whole feature maps (Tompson et al., 2015, arXiv 1411.4280).

    Args:
        inputs: Shape (batch, height, width, channels).
        style: The settings that all blocks share.
        position: Makes this layer's masks differ from the other layers'.
        name: The layer's name.

    Returns:
        The same shape.
    """
    if not style.config.dropout:
        return inputs
    return layers.SpatialDropout2D(style.config.dropout, seed=style.seed + position, name=name)(inputs)
