"""How long a training will take, from its config alone: operations times what each has cost on a reference machine.

The seconds are those of that machine, where `benchmarks/step_cost.py` measured the shipped coefficients. On another
one they are right up to a factor; comparisons between configs need none.
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
# What a segment takes after its last epoch: checkpoint and pictures.
REPORT_SECONDS = 1.1
# Those of a dual U-Net have losses too.
_OUTPUTS = {"unet": 1, "dual_unet": 3}


def step_seconds(config: ExperimentConfig, image_shape: tuple[int, int]) -> float:
    """One training step of a full batch.

    Args:
        config: `auto` resolved; what the network, batch size and precision are.
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
        train_images: How many are trained on.
        validation_images: How many are predicted afterwards.
    """
    step = step_seconds(config, image_shape)
    batch_size = config.training.batch_size
    prediction = step / batch_size * float(_coefficients(config)[_PREDICTION_SHARE])
    return step * math.ceil(train_images / batch_size) + prediction * validation_images


def start_seconds(config: ExperimentConfig, image_shape: tuple[int, int]) -> float:
    """What a segment costs on top of its epochs where its network has to be built: that, and tracing."""
    return _weigh(_coefficients(config)[_START], {"layers": _operations(config, image_shape).layers, "constant": 1.0})


def step_work(config: ExperimentConfig, image_shape: tuple[int, int]) -> dict[str, float]:
    """What one step does, by kind: what the coefficients weigh."""
    operations, batch_size = _operations(config, image_shape), config.training.batch_size
    # The loss looks at every class of every pixel, of each output that it sees; one sorts them.
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
    # float16 has no kernels of its own on a processor.
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
