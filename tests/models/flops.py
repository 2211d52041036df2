"""Floating-point operations of a network, counted from its layers: a cross-check of the counts made from configs."""

import math

import keras
from keras import layers


def count_flops(model: keras.Model) -> int:
    """Floating-point operations of the forward pass of one image, a multiply-add counted as two.

    Convolutions and dense layers are counted; what is linear in the number of activations (normalisation, pooling,
    ReLU) is not.

    Args:
        model: A built functional model.

    Returns:
        The number of operations.
    """
    return sum(_layer_flops(layer) for layer in model.layers)


def _layer_flops(layer: layers.Layer) -> int:
    if isinstance(layer, layers.Conv2DTranspose):
        positions = math.prod(int(side) for side in layer.input.shape[1:3])
    elif isinstance(layer, layers.Conv2D | layers.Dense):
        positions = math.prod(int(side) for side in layer.output.shape[1:-1])
    else:
        return 0
    # A layer that is called twice computes twice.
    return 2 * len(layer._inbound_nodes) * positions * math.prod(int(side) for side in layer.kernel.shape)
