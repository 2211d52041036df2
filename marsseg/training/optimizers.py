"""Optimizers by config, and the learning rate of the next epoch."""

from collections.abc import Sequence

import keras

from marsseg.config import OptimizerConfig, ScheduleConfig


def build_optimizer(config: OptimizerConfig, model: keras.Model) -> keras.optimizers.Optimizer:
    """An optimizer whose slots exist already, so that the training step is traced once.

    Args:
        config: Which one, its learning rate and weight decay.
        model: The network whose weights it will change.

    Returns:
        The optimizer, built.
    """
    # Keras' weight decay is decoupled in all of its optimizers (Loshchilov & Hutter, 2017, arXiv 1711.05101).
    common = {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay or None, "name": "optimizer"}
    optimizer: keras.optimizers.Optimizer
    match config.name:
        case "adam":
            optimizer = keras.optimizers.Adam(**common)
        case "adamw":
            optimizer = keras.optimizers.AdamW(**{**common, "weight_decay": config.weight_decay})
        case "nadam":
            optimizer = keras.optimizers.Nadam(**common)
        case "sgd":
            optimizer = keras.optimizers.SGD(**common, momentum=config.momentum)
    optimizer.build(model.trainable_variables)
    return optimizer


def next_learning_rate(schedule: ScheduleConfig, initial: float, scores: Sequence[float]) -> float:
    """The learning rate of the next epoch of a stage, a pure function of the scores so far.

    `plateau`: multiplied by `factor` each time `patience` epochs have passed since the best score or the last
    reduction, down to `min_learning_rate`.

    Args:
        schedule: Which schedule.
        initial: The stage's first learning rate.
        scores: `val_mean_iou` of each finished epoch of the stage, in order.

    Returns:
        A learning rate.
    """
    learning_rate = initial
    if schedule.name == "constant":
        return learning_rate
    best, epochs_without_gain = float("-inf"), 0
    for score in scores:
        if score > best:
            best, epochs_without_gain = score, 0
            continue
        epochs_without_gain += 1
        if epochs_without_gain >= schedule.patience:
            learning_rate = max(learning_rate * schedule.factor, min(schedule.min_learning_rate, learning_rate))
            epochs_without_gain = 0
    return learning_rate
