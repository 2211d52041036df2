"""Spatial transformer: an affine view of the image, chosen by a small network, and the way back.

A segmentation's masks belong to the image's own frame, so the network's output for its view is sampled back by the
inverse transform.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from marsseg.models.sizes import LOCALIZATION_FILTERS, LOCALIZATION_POOL, LOCALIZATION_UNITS

# How far each parameter may be from the identity's: the determinant then stays above 0.6² - 0.4² = 0.2, and a shift
# leaves four fifths of the image in view.
_MAX_CHANGE = 0.4


def localize(images: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """The affine transform under which the network sees an image, the identity at the start.

    A small network in float32: pooling, two convolutions of stride 2, a hidden layer and a last layer whose weights
    start at 0. Differs from the paper (Jaderberg et al., 2015, arXiv 1506.02025): changes are bounded by tanh, so that
    every transform can be inverted.

    Args:
        images: Shape (batch, height, width, channels).
        name: Prefix of the layers' names.

    Returns:
        Parameters θ of shape (batch, 6), the rows (θ₁₁, θ₁₂, θ₁₃) and (θ₂₁, θ₂₂, θ₂₃). In coordinates from -1 to 1,
        the view's pixel (x, y) shows the image at (θ₁₁x + θ₁₂y + θ₁₃, θ₂₁x + θ₂₂y + θ₂₃).
    """
    float32 = {"dtype": "float32"}
    features = layers.AveragePooling2D(LOCALIZATION_POOL, padding="same", name=f"{name}_pool", **float32)(images)
    for index, filters in enumerate(LOCALIZATION_FILTERS):
        features = layers.Conv2D(
            filters, 3, strides=2, padding="same", activation="relu", name=f"{name}_conv{index}", **float32
        )(features)
    features = layers.Flatten(name=f"{name}_flatten", **float32)(features)
    features = layers.Dense(LOCALIZATION_UNITS, activation="relu", name=f"{name}_hidden", **float32)(features)
    change = layers.Dense(6, activation="tanh", kernel_initializer="zeros", name=f"{name}_change", **float32)(features)
    return layers.Rescaling(_MAX_CHANGE, [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], name=f"{name}_theta", **float32)(change)


def invert(theta: keras.KerasTensor) -> keras.KerasTensor:
    """The transform that undoes another.

    Args:
        theta: Shape (batch, 6), the linear part invertible.

    Returns:
        Shape (batch, 6).
    """
    a, b, x, c, d, y = (theta[:, index : index + 1] for index in range(6))
    inverse = [d, -b, b * y - d * x, -c, a, c * x - a * y]
    return ops.concatenate(inverse, -1) / (a * d - b * c)


def transform(images: keras.KerasTensor, theta: keras.KerasTensor, name: str, portable: bool) -> keras.KerasTensor:
    """Samples images bilinearly under an affine transform.

    Args:
        images: Shape (batch, height, width, channels).
        theta: Shape (batch, 6), as `localize` returns it.
        name: The layer's name.
        portable: Uses Keras' own operation, which gives the same images but no gradient for θ.

    Returns:
        The shape of `images`.
    """
    if not portable:
        return AffineSampling(dtype="float32", name=name)([images, theta])
    _, height, width, _ = images.shape
    a, b, x, c, d, y = (theta[:, index : index + 1] for index in range(6))
    # From coordinates between -1 and 1 to pixels.
    half_width, half_height = max(width - 1, 1) / 2, max(height - 1, 1) / 2
    b, c = b * (half_width / half_height), c * (half_height / half_width)
    x = (x + 1) * half_width - a * half_width - b * half_height
    y = (y + 1) * half_height - c * half_width - d * half_height
    zeros = ops.zeros_like(a)
    projective = ops.concatenate([a, b, x, c, d, y, zeros, zeros], -1)
    return ops.image.affine_transform(images, projective, interpolation="bilinear", fill_mode="nearest")


@keras.saving.register_keras_serializable("marsseg")
class AffineSampling(layers.Layer):
    """Bilinear sampling of images at the points of a transformed grid (Jaderberg et al., 2015, arXiv 1506.02025).

    Points outside the image take the nearest pixel of its border. To be created with float32 as its type, whatever
    the other layers compute in: in bfloat16 a coordinate of 100 would be off by half a pixel.

    Input shapes: images (batch, height, width, channels) and θ (batch, 6). Output shape: the images'.
    """

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Samples each image under its own transform."""
        images, theta = inputs
        height, width = images.shape[1:3]
        x, y = _source_points(theta, height, width)
        left, top = tf.floor(x), tf.floor(y)
        columns = [_clip(left, width), _clip(left + 1, width)]
        rows = [_clip(top, height), _clip(top + 1, height)]
        horizontal, vertical = tf.expand_dims(x - left, -1), tf.expand_dims(y - top, -1)
        weights = [(1 - vertical) * (1 - horizontal), (1 - vertical) * horizontal]
        weights += [vertical * (1 - horizontal), vertical * horizontal]
        # Not `batch_dims`, which would number the images again for each corner, in dozens of operations.
        numbers = tf.reshape(tf.range(tf.shape(images)[0]), [-1, 1, 1]) + tf.zeros_like(rows[0])
        corners = (tf.stack([numbers, row, column], -1) for row in rows for column in columns)
        return tf.add_n(
            [weight * tf.gather_nd(images, corner) for weight, corner in zip(weights, corners, strict=True)]
        )

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """The images' shape."""
        return input_shape[0]


def _source_points(theta: tf.Tensor, height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The source column and row of each pixel, each of shape (batch, height, width)."""
    a, b, right, c, d, down = tf.unstack(tf.reshape(theta, [-1, 1, 1, 6]), axis=-1)
    grid_x = np.linspace(-1.0, 1.0, width, dtype=np.float32)
    grid_y = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, np.newaxis]
    x = a * grid_x + b * grid_y + right
    y = c * grid_x + d * grid_y + down
    # Outside the border every point shows the border, and contributes no gradient to the transform.
    x, y = tf.clip_by_value(x, -1.0, 1.0), tf.clip_by_value(y, -1.0, 1.0)
    return (x + 1) * ((width - 1) / 2), (y + 1) * ((height - 1) / 2)


def _clip(positions: tf.Tensor, size: int) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(positions, 0.0, size - 1.0), tf.int32)
