"""Batches for training, as one `tf.data` pipeline over all epochs of a segment.

Order and augmentation depend only on (seed, epoch, step), so a segment that starts at any epoch sees the batches an
uninterrupted training run would have seen.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from marsseg.config import AugmentationConfig
from marsseg.data.augment import Batch, augment, paste_objects
from marsseg.data.rare import Objects, find_rare_objects, repeat_rare

_WHITE = np.float32(255)


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Number of batches per epoch; the last one is padded with images already used in the epoch."""
    return math.ceil(num_images / batch_size)


def as_levels(images: NDArray[np.float32]) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Stores images as grey levels, in a quarter of the memory, if that is lossless; otherwise returns them unchanged.

    Args:
        images: Values in [0, 1], any shape.

    Returns:
        Levels from 0 (black) to 255 (white), uint8; or the images.
    """
    levels = np.rint(np.clip(images, 0, 1) * _WHITE).astype(np.uint8)
    return levels if np.array_equal(levels / _WHITE, images) else images


@dataclass(frozen=True)
class TrainingSet:
    """The data that batches are made from.

    Args:
        images: Shape (n, height, width, channels): values in [0, 1], or grey levels from `as_levels`.
        masks: Labels, shape (n, height, width).
        indices: The images of an epoch before shuffling; some may appear more than once.
        objects: Objects that may be pasted into images.
        augmentation: Which augmentations to apply.
    """

    images: NDArray[np.uint8] | NDArray[np.float32]
    masks: NDArray[np.uint8]
    indices: NDArray[np.int64]
    objects: Objects
    augmentation: AugmentationConfig

    @classmethod
    def of(cls, images: NDArray[np.float32], masks: NDArray[np.uint8], augmentation: AugmentationConfig) -> Self:
        """Builds the training set with the repeats and objects that a config asks for.

        Args:
            images: Values in [0, 1], shape (n, height, width, channels).
            masks: Labels, shape (n, height, width).
            augmentation: Which augmentations to apply, and how often to repeat images of the rarest class.
        """
        objects = find_rare_objects(masks if augmentation.paste_rare else masks[:0])
        return cls(as_levels(images), masks, repeat_rare(masks, augmentation.repeat_rare), objects, augmentation)

    def __len__(self) -> int:
        return len(self.indices)

    def batches(self, batch_size: int, seed: int, first_epoch: int, last_epoch: int) -> tf.data.Dataset:
        """All batches of the epochs `first_epoch` to `last_epoch`, one epoch after the other.

        All batches have the same size: the last of an epoch is padded with the epoch's first images. For a smaller
        batch oneDNN would generate and keep the code of every operation a second time, and normalisation would see few
        images.

        Args:
            batch_size: Images per batch, or all of them if there are fewer.
            seed: Determines order and augmentation, together with epoch and step.
            first_epoch: Counted from 1.
            last_epoch: Included.

        Returns:
            A dataset of (batch, height, width, channels) float32 and (batch, height, width) int32.
        """
        images, masks = tf.constant(self.images), tf.constant(self.masks)
        indices = tf.constant(self.indices, tf.int32)
        size = min(batch_size, len(self))
        missing = -len(self) % size

        def load(chosen: tf.Tensor) -> Batch:
            pixels = tf.cast(tf.gather(images, chosen), tf.float32)
            return (
                pixels / _WHITE if self.images.dtype == np.uint8 else pixels,
                tf.cast(tf.gather(masks, chosen), tf.int32),
            )

        # Nothing here depends on a tensor's value; AutoGraph would take time and leave generated sources in the
        # temporary folder.
        @tf.autograph.experimental.do_not_convert
        def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
            epoch_seed = tf.stack([tf.constant(seed, tf.int64), epoch])
            order = tf.random.experimental.stateless_shuffle(tf.range(len(self)), seed=epoch_seed)
            order = tf.concat([order, order[:missing]], axis=0)

            def augmented(step: tf.Tensor, positions: tf.Tensor) -> Batch:
                batch = load(tf.gather(indices, positions))
                step_seed = tf.random.experimental.stateless_fold_in(epoch_seed, step)
                if len(self.objects.image):
                    paste_seed = tf.random.experimental.stateless_fold_in(step_seed, 0)
                    batch = paste_objects(*batch, load, self.objects, self.augmentation.paste_rare, paste_seed)
                return augment(*batch, self.augmentation, step_seed)

            return tf.data.Dataset.from_tensor_slices(order).batch(size).enumerate().map(augmented)

        epochs = tf.data.Dataset.range(first_epoch, last_epoch + 1).flat_map(epoch_batches).prefetch(2)
        return epochs.with_options(_untuned())


def _untuned() -> tf.data.Options:
    # There is nothing to tune here. Besides, the tuner, which wakes up less and less often, sometimes misses that its
    # iterator is being destroyed: the destruction then blocks for many seconds, until the tuner wakes up again.
    options = tf.data.Options()
    options.autotune.enabled = False
    return options
