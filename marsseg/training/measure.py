"""How long a training step takes on this machine, measured on random images."""

import statistics
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from marsseg.config import ExperimentConfig
from marsseg.training.network import build_network, build_network_loss
from marsseg.training.replicas import Replicas
from marsseg.training.step import build_train_step

_WARM_UP, _TIMED = 2, 5


def build_step(
    config: ExperimentConfig, image_shape: tuple[int, int]
) -> tuple[keras.Model, tf.types.experimental.PolymorphicFunction]:
    """A config's network and its training step, without a trainer around them.

    Args:
        config: `auto` resolved; the process is set up for it.
        image_shape: (height, width) of the images.
    """
    model = build_network(config, image_shape)
    loss = build_network_loss(config, config.loss, np.ones(config.data.num_classes, np.int64))
    return model, build_train_step(Replicas(model, config.training, config.optimizer), loss)


def random_batch(config: ExperimentConfig, image_shape: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Random images and labels for a step."""
    luck = np.random.default_rng(0)
    shape = (config.training.batch_size, *image_shape)
    images = tf.constant(luck.random((*shape, 1), np.float32))
    return images, tf.constant(luck.integers(0, config.data.num_classes, shape, np.int32))


def measure_step(config: ExperimentConfig, image_shape: tuple[int, int], on_step: Callable[[], None]) -> float:
    """Seconds of a training step, the median of several steps.

    Args:
        config: `auto` resolved; the process is set up for it.
        image_shape: (height, width) of the images.
        on_step: Called after each step, including warm-up steps.
    """
    images, labels = random_batch(config, image_shape)
    _, step = build_step(config, image_shape)
    seconds = []
    for _ in range(_WARM_UP + _TIMED):
        begin = time.perf_counter()
        float(step(images, labels))
        seconds.append(time.perf_counter() - begin)
        on_step()
    return statistics.median(seconds[_WARM_UP:])
