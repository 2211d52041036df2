"""How long a training run will take, from its config alone: operation counts times costs on a reference machine.

The seconds are those of that machine, where `benchmarks/step_cost.py` measured the shipped coefficients. On another
machine they are right up to a factor; comparisons between configs do not need it.
"""

import json
import math
from functools import cache
from importlib import resources
from typing import Any

from marsseg.config import ExperimentConfig
from marsseg.models.operations import Operations, count_operations

_STEP = "step"
_START = "start"
_PREDICTION_SHARE = "prediction_share"
# Seconds of a segment after its last epoch: checkpoint and plots.
REPORT_SECONDS = 1.1
# Number of outputs with a loss; each branch of a dual U-Net has one too.
_OUTPUTS = {"unet": 1, "dual_unet": 3}


def step_seconds(config: ExperimentConfig, image_shape: tuple[int, int]) -> float:
    """One training step of a full batch.

    Args:
        config: Sets network, batch size and precision; `auto` resolved.
        image_shape: (height, width) of the images.
    """
    return _weigh(_coefficients(config)[_STEP], step_work(config, image_shape))


def epoch_seconds(
    config: ExperimentConfig, image_shape: tuple[int, int], train_images: int, validation_images: int
) -> float:
    """One epoch with its validation.

    Args:
        config: `auto` resolved.
        image_shape: (height, width) of the images.
        train_images: Number of training images.
        validation_images: Number of images predicted afterwards.
    """
    step = step_seconds(config, image_shape)
    batch_size = config.training.batch_size
    prediction = step / batch_size * float(_coefficients(config)[_PREDICTION_SHARE])
    return step * math.ceil(train_images / batch_size) + prediction * validation_images


def start_seconds(config: ExperimentConfig, image_shape: tuple[int, int]) -> float:
    """The extra cost of a segment whose network has to be built: building and tracing it."""
    return _weigh(_coefficients(config)[_START], {"layers": _operations(config, image_shape).layers, "constant": 1.0})


def step_work(config: ExperimentConfig, image_shape: tuple[int, int]) -> dict[str, float]:
    """The work of one step by kind, to be weighted by the coefficients."""
    operations, batch_size = _operations(config, image_shape), config.training.batch_size
    # The loss reads every class of every pixel of each of its outputs; Lovász-softmax sorts them.
    looked_at = math.prod(image_shape) * config.data.num_classes * _OUTPUTS[config.model.family] * batch_size / 1e6
    return {
        **{kind: amount * batch_size for kind, amount in operations.work.items()},
        "loss": looked_at * len(config.loss.terms),
        "sorted": looked_at if "lovasz_softmax" in dict(config.loss.terms) else 0.0,
        "params": operations.params / 1e6,
        "layers": operations.layers,
        "constant": 1.0,
    }


def _operations(config: ExperimentConfig, image_shape: tuple[int, int]) -> Operations:
    return count_operations(config.model, image_shape, config.data.num_classes)


def _coefficients(config: ExperimentConfig) -> dict[str, Any]:
    by_precision = load_coefficients()
    # float16 was not measured.
    found: dict[str, Any] = by_precision.get(config.training.precision, by_precision["float32"])
    return found


@cache
def load_coefficients() -> dict[str, Any]:
    """By precision: seconds by kind of work of `step` and `start`, and the share of a step that a prediction takes."""
    text = resources.files("marsseg.models").joinpath("coefficients.json").read_text(encoding="utf-8")
    coefficients: dict[str, Any] = json.loads(text)
    return coefficients


def _weigh(coefficients: dict[str, float], work: dict[str, float]) -> float:
    return sum(coefficients[kind] * amount for kind, amount in work.items() if kind in coefficients)
