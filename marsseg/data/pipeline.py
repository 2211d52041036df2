"""Batches for training, as one `tf.data` pipeline over all epochs of a segment.

Order and augmentation depend on (seed, epoch, step) only, so that a segment that starts at any epoch sees what an
uninterrupted training would have seen.
"""

import math

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from marsseg.config import AugmentationConfig
from marsseg.data.augment import random_flips

_WHITE = np.float32(255)


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """How many batches an epoch has; the last one may be smaller."""
    return math.ceil(num_images / batch_size)


def as_levels(images: NDArray[np.float32]) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Images as grey levels, a quarter of the memory, where they are just that; else as they are.

    Args:
        images: Values in [0, 1], any shape.

    Returns:
        Levels from 0 (black) to 255 (white), uint8; or the images.
    """
    levels = np.rint(np.clip(images, 0, 1) * _WHITE).astype(np.uint8)
    return levels if np.array_equal(levels / _WHITE, images) else images


def training_batches(
    images: NDArray[np.uint8] | NDArray[np.float32],
    masks: NDArray[np.uint8],
    augmentation: AugmentationConfig,
    batch_size: int,
    seed: int,
    first_epoch: int,
    last_epoch: int,
) -> tf.data.Dataset:
    """All batches of the epochs `first_epoch` to `last_epoch`, one epoch after the other.

    Args:
        images: Shape (n, height, width, channels): values in [0, 1], or grey levels as of `as_levels`.
        masks: Labels, shape (n, height, width).
        augmentation: Random changes.
        batch_size: Images a batch.
        seed: Decides order and augmentation, with epoch and step.
        first_epoch: Counted from 1.
        last_epoch: Included.

    Returns:
        A dataset of (batch, height, width, channels) float32 and (batch, height, width) int32.
    """
    all_images, all_masks = tf.constant(images), tf.constant(masks)

    # Nothing here depends on a tensor's value; AutoGraph would take time and leave its sources in the temporary folder.
    @tf.autograph.experimental.do_not_convert
    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        epoch_seed = tf.stack([tf.constant(seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(tf.range(len(images)), seed=epoch_seed)

        def load(step: tf.Tensor, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            pixels = tf.cast(tf.gather(all_images, indices), tf.float32)
            batch = (
                pixels / _WHITE if images.dtype == np.uint8 else pixels,
                tf.cast(tf.gather(all_masks, indices), tf.int32),
            )
            if augmentation.flips:
                batch = random_flips(*batch, tf.random.experimental.stateless_fold_in(epoch_seed, step))
            return batch

        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size).enumerate().map(load)

    return tf.data.Dataset.range(first_epoch, last_epoch + 1).flat_map(epoch_batches).prefetch(2)
