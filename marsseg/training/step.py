"""One training step and one prediction, each traced once."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from marsseg.losses import Loss
from marsseg.training.replicas import Replicas

# Larger batches are not faster, and their feature maps take more memory.
_PIXELS_AT_ONCE = 2**18
_NO_CLASS = 255


def build_train_step(replicas: Replicas, loss: Loss) -> tf.types.experimental.PolymorphicFunction:
    """A function that changes the weights by one batch.

    Args:
        replicas: The replicas whose weights it changes.
        loss: Function of labels and logits.

    Returns:
        A function (images, labels) → loss, a scalar.
    """
    height, width, channels = replicas.model.input_shape[1:]

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, height, width, channels), tf.float32),
            tf.TensorSpec((None, height, width), tf.int32),
        ],
        autograph=False,
    )
    def train_step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        return replicas.train(loss, images, labels)

    return train_step


class Evaluator:
    """Predicts labels and counts the confusion matrix of one network.

    All batches have the same size, the last one is padded. Kernels are created for each new size, which takes longer
    than computing some images for nothing, and stay in memory.

    Args:
        model: Returns logits.
        num_images: Number of images that it will mostly see.

    Attributes:
        batch_size: The size that divides them best.
    """

    def __init__(self, model: keras.Model, num_images: int) -> None:
        height, width = model.input_shape[1:3]
        self._num_classes = model.output_shape[-1]
        most = max(1, _PIXELS_AT_ONCE // (height * width))
        self.batch_size = math.ceil(num_images / math.ceil(num_images / most))

        images = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
        masks = tf.TensorSpec((None, *model.input_shape[1:3]), tf.uint8)

        @tf.function(input_signature=[images], autograph=False)
        def predict(images: tf.Tensor) -> tf.Tensor:
            return tf.argmax(model(images, training=False), axis=-1, output_type=tf.int32)

        @tf.function(input_signature=[images], autograph=False)
        def predict_probabilities(images: tf.Tensor) -> tf.Tensor:
            return tf.nn.softmax(model(images, training=False))

        @tf.function(input_signature=[images, masks], autograph=False)
        def count(images: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
            # Counts of one image are exact in float32, and a matrix multiplication is deterministic everywhere.
            pixels = [tf.shape(images)[0], tf.reduce_prod(masks.shape[1:])]
            truth, predicted = (
                tf.one_hot(tf.reshape(labels, pixels), self._num_classes, axis=1) for labels in (masks, predict(images))
            )
            counts = tf.matmul(truth, predicted, transpose_b=True)
            return tf.reduce_sum(tf.cast(counts, tf.int64), axis=0, keepdims=True)

        self._predict, self._predict_probabilities, self._count = predict, predict_probabilities, count

    def confusion_matrix(
        self, images: NDArray[np.float32], masks: NDArray[np.uint8], on_batch: Callable[[], None] = lambda: None
    ) -> NDArray[np.int64]:
        """Counts pixels by true and predicted class.

        Args:
            images: Shape (n, height, width, channels), values in [0, 1]; n ≥ 1.
            masks: Labels, shape (n, height, width).
            on_batch: Called after each batch.

        Returns:
            Counts, shape (num_classes, num_classes); row: true class, column: predicted class.
        """
        counts: NDArray[np.int64] = self._in_batches(self._count, images, masks, on_batch=on_batch).sum(axis=0)
        return counts

    def predict_labels(self, images: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The most likely class of each pixel.

        Args:
            images: Shape (n, height, width, channels), values in [0, 1]; n ≥ 1.

        Returns:
            Labels, shape (n, height, width).
        """
        return self._in_batches(self._predict, images)[: len(images)].astype(np.uint8)

    def predict_probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """The probability of each class at each pixel.

        Args:
            images: Shape (n, height, width, channels), values in [0, 1]; n ≥ 1.

        Returns:
            Softmax of the logits, shape (n, height, width, num_classes).
        """
        return self._in_batches(self._predict_probabilities, images)[: len(images)]

    def _in_batches(
        self,
        function: tf.types.experimental.PolymorphicFunction,
        *arrays: NDArray[Any],
        on_batch: Callable[[], None] = lambda: None,
    ) -> NDArray[Any]:
        size, results = self.batch_size, []
        for start in range(0, len(arrays[0]), size):
            batch = [_pad(array[start : start + size], size) for array in arrays]
            results.append(function(*batch).numpy())
            on_batch()
        return np.concatenate(results)


def _pad(batch: NDArray[Any], size: int) -> NDArray[Any]:
    # Labels are integers, and the padding is not a class: it counts nowhere.
    missing = [(0, size - len(batch))] + [(0, 0)] * (batch.ndim - 1)
    return np.pad(batch, missing, constant_values=_NO_CLASS if batch.dtype == np.uint8 else 0)
