"""Attention blocks: gates, computed from the feature maps themselves, that scale channels or pixels.

Each is a function from Keras tensors to a Keras tensor, made of Keras' own operations and layers; every layer with
weights has a name of its own.
"""

import keras
from keras import layers, ops

from marsseg.models.half_precision import conv2d_class
from marsseg.models.sizes import ATTENTION_KERNEL_SIZE


def squeeze_and_excitation(inputs: keras.KerasTensor, reduction_ratio: int, name: str) -> keras.KerasTensor:
    """Scales each channel by a gate computed from all channels' means (Hu et al., 2017, arXiv 1709.01507).

    The gate is computed in float32: means over thousands of pixels lose too much in bfloat16.

    Args:
        inputs: Shape (batch, height, width, channels).
        reduction_ratio: Channels divided by this is the width of the gate's hidden layer; must divide channels.
        name: Prefix of the layers' names.

    Returns:
        The same shape.
    """
    channels = inputs.shape[-1]
    gate = layers.GlobalAveragePooling2D(dtype="float32", name=f"{name}_squeeze")(inputs)
    gate = layers.Dense(channels // reduction_ratio, activation="relu", dtype="float32", name=f"{name}_reduce")(gate)
    gate = layers.Dense(channels, activation="sigmoid", dtype="float32", name=f"{name}_excite")(gate)
    return layers.Multiply(name=f"{name}_scale")([inputs, ops.expand_dims(gate, (1, 2))])


def convolutional_block_attention(inputs: keras.KerasTensor, reduction_ratio: int, name: str) -> keras.KerasTensor:
    """CBAM: scales channels, then pixels (Woo et al., 2018, arXiv 1807.06521).

    Channel gate: σ(MLP(mean over pixels) + MLP(maximum over pixels)), one MLP for both, with one hidden layer. Pixel
    gate: σ of a 7×7 convolution of the mean and the maximum over channels. The channel gate is computed in float32.

    Args:
        inputs: Shape (batch, height, width, channels).
        reduction_ratio: Channels divided by this is the width of the MLP's hidden layer; must divide channels.
        name: Prefix of the layers' names.

    Returns:
        The same shape.
    """
    channels = inputs.shape[-1]
    mean = layers.GlobalAveragePooling2D(dtype="float32", name=f"{name}_mean")(inputs)
    maximum = layers.GlobalMaxPooling2D(dtype="float32", name=f"{name}_max")(inputs)
    reduce = layers.Dense(channels // reduction_ratio, activation="relu", dtype="float32", name=f"{name}_reduce")
    expand = layers.Dense(channels, dtype="float32", name=f"{name}_expand")
    gate = layers.Add(dtype="float32", name=f"{name}_both")([expand(reduce(mean)), expand(reduce(maximum))])
    gate = ops.expand_dims(ops.sigmoid(gate), (1, 2))
    outputs = layers.Multiply(name=f"{name}_scale_channels")([inputs, gate])

    summary = ops.concatenate([ops.mean(outputs, -1, keepdims=True), ops.max(outputs, -1, keepdims=True)], -1)
    conv2d = conv2d_class()
    gate = conv2d(
        1, ATTENTION_KERNEL_SIZE, padding="same", activation="sigmoid", use_bias=False, name=f"{name}_pixel_gate"
    )(summary)
    return layers.Multiply(name=f"{name}_scale_pixels")([outputs, gate])


def attention_gate(inputs: keras.KerasTensor, gating: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Scales each pixel of a skip connection by a gate from the coarser level (Oktay et al., 2018, arXiv 1804.03999).

    Gate: σ(ψ · ReLU(W_x x + W_g g + b_g) + b_ψ) at the coarser size, upsampled bilinearly. As in the authors' own code,
    W_x is a 2×2 convolution of stride 2; the hidden layer has half as many channels as x; the convolution and
    normalisation that their code adds after the product are left to the decoder's block.

    Args:
        inputs: x, the skip connection, shape (batch, 2·height, 2·width, channels).
        gating: g, the decoder's feature maps one level below, shape (batch, height, width, any).
        name: Prefix of the layers' names.

    Returns:
        The shape of `inputs`.
    """
    hidden = max(inputs.shape[-1] // 2, 1)
    conv2d = conv2d_class()
    x = conv2d(hidden, 2, strides=2, use_bias=False, name=f"{name}_x")(inputs)
    g = conv2d(hidden, 1, name=f"{name}_g")(gating)
    outputs = layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_sum")([x, g]))
    gate = conv2d(1, 1, activation="sigmoid", name=f"{name}_psi")(outputs)
    gate = layers.UpSampling2D(2, interpolation="bilinear", name=f"{name}_resize")(gate)
    return layers.Multiply(name=f"{name}_scale")([inputs, gate])
