"""Random changes of a batch, the same for image and mask, decided by a stateless seed alone."""

import tensorflow as tf


def random_flips(images: tf.Tensor, masks: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Flips each image and its mask left-right and top-bottom, each with probability 1/2.

    Args:
        images: Shape (batch, height, width, channels).
        masks: Shape (batch, height, width).
        seed: Two integers that decide which images are flipped.

    Returns:
        Images and masks of the same shapes.
    """
    chosen = tf.random.stateless_uniform([2, tf.shape(images)[0]], seed) < 0.5
    for axis, flipped in ((2, chosen[0]), (1, chosen[1])):
        images = tf.where(flipped[:, None, None, None], tf.reverse(images, [axis]), images)
        masks = tf.where(flipped[:, None, None], tf.reverse(masks, [axis]), masks)
    return images, masks
