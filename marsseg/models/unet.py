"""The U-Net as a Keras functional model."""

import keras
from keras import layers

from marsseg.config import UNetConfig
from marsseg.models.blocks import BlockStyle, conv_block, dropout, squeeze_and_excitation, upsample

# Softmax gives exactly 0 for it in float32, and it stays finite in every sum.
_NEVER = -1e9


def build_unet(
    config: UNetConfig,
    image_shape: tuple[int, int, int],
    num_classes: int,
    seed: int = 0,
    portable: bool = False,
) -> keras.Model:
    """A U-Net (Ronneberger et al., 2015, arXiv 1505.04597) that returns logits.

    Initial weights follow the seed alone; the global precision policy decides the compute type, the head is float32.

    Args:
        config: What the network looks like.
        image_shape: (height, width, channels); both sides divisible by 2 to the power of `num_blocks`.
        num_classes: Channels of the result.
        seed: Decides initial weights and dropout masks.
        portable: Uses only Keras' own layers (same weights, in the same order, same function).

    Returns:
        A model from (batch, height, width, channels) in [0, 1] to logits (batch, height, width, num_classes).

    Raises:
        ConfigError: If the depth does not fit the image.
    """
    height, width, _ = image_shape
    config.check_image_fits(height, width)
    keras.utils.set_random_seed(seed)
    style = BlockStyle(config, seed, portable)

    inputs = keras.Input(image_shape, name="image")
    outputs = inputs
    skips: list[keras.KerasTensor] = []
    for level in range(config.num_blocks):
        outputs = conv_block(outputs, config.filters_at(level), style, f"encoder{level}")
        if config.se == "encoder":
            outputs = squeeze_and_excitation(outputs, config.se_reduction_ratio, f"encoder{level}_se")
        skips.append(outputs)
        outputs = layers.MaxPooling2D(name=f"encoder{level}_pool")(outputs)

    outputs = conv_block(outputs, config.filters_at(config.num_blocks), style, "bottleneck")
    if config.se == "bottleneck":
        outputs = squeeze_and_excitation(outputs, config.se_reduction_ratio, "bottleneck_se")
    outputs = dropout(outputs, style, config.num_blocks, "bottleneck_dropout")

    for level in reversed(range(config.num_blocks)):
        filters = config.filters_at(level)
        outputs = upsample(outputs, filters, style, f"decoder{level}_up")
        if config.skip_connections:
            skip = skips[level]
            if config.se == "skip":
                skip = squeeze_and_excitation(skip, config.se_reduction_ratio, f"skip{level}_se")
            outputs = layers.Concatenate(name=f"decoder{level}_concat")([outputs, skip])
        outputs = conv_block(outputs, filters, style, f"decoder{level}")
        outputs = dropout(outputs, style, level, f"decoder{level}_dropout")

    return keras.Model(inputs, _head(outputs, config, num_classes), name="unet")


def _head(features: keras.KerasTensor, config: UNetConfig, num_classes: int) -> keras.KerasTensor:
    logits = layers.Conv2D(num_classes, 1, dtype="float32", name="logits")(features)
    if config.predict_background:
        return logits
    others = num_classes - 1
    # The mask is part of the network, so that metrics, ensembles and exports agree.
    return layers.Rescaling(
        scale=[0.0] + [1.0] * others, offset=[_NEVER] + [0.0] * others, dtype="float32", name="background_mask"
    )(logits)
