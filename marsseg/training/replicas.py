"""One training run on one device, or on several at once that share their gradients."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import keras
import tensorflow as tf

from marsseg.config import OptimizerConfig, TrainingConfig
from marsseg.errors import TrainingError
from marsseg.losses import Loss
from marsseg.training.replica import Arrays, Replica


class Replicas:
    """The replicas of one training run, equal to the bit after every step.

    With several GPUs each takes its share of the batch, in the order of the images. Loss and normalisation see that
    share alone; loss, gradient and moving statistics are then averaged over the replicas, each weighted by its share of
    images, and every replica takes the same step. A loss that is a plain mean over pixels comes out as on one GPU; one
    that is a ratio over the batch, such as Dice or a class-weighted mean, does not, and neither does normalisation, so
    the number of GPUs is part of the config. The sum has a fixed order, so the bits repeat.

    Args:
        model: The network; training starts from its weights.
        training: Number of GPUs, precision, and whether the weights are averaged.
        optimizer: The first stage's optimizer.

    Raises:
        TrainingError: If there are fewer GPUs.
    """

    def __init__(self, model: keras.Model, training: TrainingConfig, optimizer: OptimizerConfig) -> None:
        self.model = model
        self._devices = training_devices(training.gpus) if training.gpus > 1 else []
        self._strategy = (
            tf.distribute.MirroredStrategy(self._devices, tf.distribute.ReductionToOneDevice())
            if self._devices
            else None
        )
        self.all: list[Replica] = []
        for number in range(training.gpus):
            with self._on(number):
                self.all.append(Replica(model, training, optimizer, number))

    @property
    def first(self) -> Replica:
        """The replica that is validated and recorded."""
        return self.all[0]

    def begin_stage(self, optimizer: OptimizerConfig) -> None:
        """Switches to another optimizer, without any memory of gradients."""
        for number, replica in enumerate(self.all):
            with self._on(number):
                replica.begin_stage(optimizer)

    def set_learning_rate(self, learning_rate: float) -> None:
        """Sets the learning rate of the steps that follow."""
        for replica in self.all:
            replica.optimizer.learning_rate.assign(learning_rate)

    def restore(self, group: Callable[[str], Arrays], same_stage: bool) -> None:
        """Goes back to a state of the first replica; arguments as there."""
        for replica in self.all:
            replica.restore(group, same_stage)

    def train(self, loss: Loss, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Changes the weights by one batch; can be traced.

        Args:
            loss: Function of labels and logits.
            images: Shape (batch, height, width, channels).
            labels: Shape (batch, height, width).

        Returns:
            The loss, a scalar.
        """
        if self._strategy is None:
            value, gradient = self.first.gradient(loss, images, labels)
            self.first.apply(gradient)
            return value
        values = self._strategy.run(self._train_share, (loss, images, labels))
        return self._strategy.experimental_local_results(values)[0]

    def _train_share(self, loss: Loss, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        number = int(tf.get_static_value(context.replica_id_in_sync_group))
        replica, count = self.all[number], tf.shape(images)[0]
        first, end = (count * border // len(self.all) for border in (number, number + 1))
        weight = tf.cast(end - first, tf.float32) / tf.cast(count, tf.float32)
        # In a batch with fewer images than replicas, some take an image that is not their own, with weight 0.
        end = tf.maximum(end, first + 1)
        value, gradient = replica.gradient(loss, images[first:end], labels[first:end])
        statistics = replica.weights.vectors[1]
        # Not a product alone: 0 times an infinite value would be NaN.
        shares = [tf.where(weight > 0, weight * part, tf.zeros_like(part)) for part in (value, gradient, statistics)]
        value, gradient, mean_statistics = context.all_reduce(tf.distribute.ReduceOp.SUM, shares)
        statistics.assign(mean_statistics)
        replica.apply(gradient)
        return value

    def _on(self, number: int) -> AbstractContextManager[None]:
        return tf.device(self._devices[number]) if self._devices else nullcontext()


def training_devices(count: int) -> list[str]:
    """The first GPUs; on a machine without any, the logical devices that its CPU was divided into.

    Raises:
        TrainingError: If there are fewer.
    """
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or tf.config.list_logical_devices("CPU")
    if len(devices) < count:
        raise TrainingError(f"training.gpus = {count}: found {len(gpus) or 'none'} that TensorFlow can use")
    return [device.name for device in devices[:count]]
