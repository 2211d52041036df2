"""The U-Net as a Keras functional model."""

import keras
from keras import layers

from marsseg.config import UNetConfig
from marsseg.models.attention import attention_gate, convolutional_block_attention, squeeze_and_excitation
from marsseg.models.blocks import BlockStyle, conv_block, dropout, upsample
from marsseg.models.sizes import PLAIN_RATES
from marsseg.models.spatial_transformer import invert, localize, transform

# Softmax of this logit is exactly 0 in float32, and it stays finite in every sum.
_NEVER = -1e9


def build_unet(
    config: UNetConfig,
    image_shape: tuple[int, int, int],
    num_classes: int,
    seed: int = 0,
    portable: bool = False,
) -> keras.Model:
    """A U-Net (Ronneberger et al., 2015, arXiv 1505.04597) that returns logits.

    Initial weights depend on the seed alone; the global precision policy decides the compute type, the head is float32.

    Args:
        config: The network's config.
        image_shape: (height, width, channels); both sides divisible by 2 to the power of `num_blocks`.
        num_classes: Channels of the result.
        seed: Random seed of initial weights and dropout masks.
        portable: Uses only Keras' own layers (same weights, same order, same function); the policy must be float32.

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
    theta = localize(inputs, "stn") if config.stn else None
    view = inputs if theta is None else transform(inputs, theta, "stn_view", portable)
    logits = head(encode_decode(view, config.num_blocks, style), num_classes, "logits")
    if theta is not None:
        logits = transform(logits, invert(theta), "stn_back", portable)
    return keras.Model(inputs, mask_background(logits, config), name="unet")


def encode_decode(inputs: keras.KerasTensor, num_blocks: int, style: BlockStyle, prefix: str = "") -> keras.KerasTensor:
    """Encoder, bottleneck and decoder with the skips between them.

    Args:
        inputs: Shape (batch, height, width, channels).
        num_blocks: Number of times the sides are halved.
        style: The settings that all blocks share.
        prefix: Prefix of the layers' names.

    Returns:
        Feature maps, shape (batch, height, width, config.filters_at(0)).
    """
    config, outputs = style.config, inputs
    skips: list[keras.KerasTensor] = []
    for level in range(num_blocks):
        name = f"{prefix}encoder{level}"
        outputs = conv_block(outputs, config.filters_at(level), style, name)
        outputs = _attend(outputs, "encoder", style, name)
        skips.append(outputs)
        outputs = layers.MaxPooling2D(name=f"{name}_pool")(outputs)

    name = f"{prefix}bottleneck"
    rates = config.dilation_rates if config.dilation in ("bottleneck", "both") else PLAIN_RATES
    outputs = conv_block(outputs, config.filters_at(num_blocks), style, name, rates)
    outputs = _attend(outputs, "bottleneck", style, name)
    outputs = dropout(outputs, style, num_blocks, f"{name}_dropout")

    for level in reversed(range(num_blocks)):
        filters, name = config.filters_at(level), f"{prefix}decoder{level}"
        coarser, outputs = outputs, upsample(outputs, filters, style, f"{name}_up")
        if config.skip_connections:
            skip = _connect(skips[level], coarser, style, f"{prefix}skip{level}")
            outputs = layers.Concatenate(name=f"{name}_concat")([outputs, skip])
        outputs = conv_block(outputs, filters, style, name)
        outputs = dropout(outputs, style, level, f"{name}_dropout")
    return outputs


def head(features: keras.KerasTensor, num_classes: int, name: str) -> keras.KerasTensor:
    """Logits in float32, by a 1×1 convolution; as a matrix multiplication it is twice as fast.

    Args:
        features: Shape (batch, height, width, channels).
        num_classes: Channels of the result.
        name: The layer's name.

    Returns:
        Shape (batch, height, width, num_classes).
    """
    return layers.Dense(num_classes, dtype="float32", name=name)(features)


def mask_background(logits: keras.KerasTensor, config: UNetConfig) -> keras.KerasTensor:
    """Removes class 0 where it must never be predicted: part of the network, so that all its uses agree.

    Args:
        logits: Shape (batch, height, width, num_classes).
        config: Says whether class 0 may be predicted.

    Returns:
        The same shape.
    """
    if config.predict_background:
        return logits
    others = logits.shape[-1] - 1
    return layers.Rescaling(
        scale=[0.0] + [1.0] * others, offset=[_NEVER] + [0.0] * others, dtype="float32", name="background_mask"
    )(logits)


def _connect(skip: keras.KerasTensor, coarser: keras.KerasTensor, style: BlockStyle, name: str) -> keras.KerasTensor:
    """The blocks on a skip connection, from the encoder's feature maps to the decoder."""
    config = style.config
    if config.dilation in ("skip", "both"):
        skip = conv_block(skip, skip.shape[-1], style, f"{name}_dilated", config.dilation_rates)
    skip = _attend(skip, "skip", style, name)
    return attention_gate(skip, coarser, f"{name}_gate") if config.attention_gates else skip


def _attend(features: keras.KerasTensor, place: str, style: BlockStyle, name: str) -> keras.KerasTensor:
    """The attention blocks that the config sets at this place."""
    config = style.config
    if config.se == place:
        features = squeeze_and_excitation(features, config.se_reduction_ratio, f"{name}_se")
    if config.cbam == place:
        features = convolutional_block_attention(features, config.cbam_reduction_ratio, f"{name}_cbam")
    return features
