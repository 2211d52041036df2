"""The modelled cost follows the work; `benchmarks/step_cost.py` measures how well it predicts seconds."""

import math
from typing import Any

import pytest

from marsseg.config import ExperimentConfig
from marsseg.models.cost import epoch_seconds, load_coefficients, start_seconds, step_seconds, step_work

SHAPE = (64, 128)
PRECISIONS = ("bfloat16", "float32")


def config(**values: Any) -> ExperimentConfig:
    plain = {"model.num_blocks": 4, "model.base_filters": 16, "training.precision": "float32", "training.threads": 2}
    return ExperimentConfig().with_values({**plain, **{key.replace("__", "."): each for key, each in values.items()}})


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "more",
    [
        {"model__base_filters": 32},
        {"model__num_blocks": 5},
        {"training__batch_size": 32},
        {"model__cbam": "encoder"},
        {"model__se": "encoder"},
        {"model__dilation": "both"},
        {"model__stn": True},
        {"model__attention_gates": True},
        {"model__base_filters": 24},
    ],
    ids=str,
)
def test_more_work_takes_longer(precision: str, more: dict[str, Any]) -> None:
    plain = step_seconds(config(training__precision=precision), SHAPE)
    assert step_seconds(config(training__precision=precision, **more), SHAPE) > plain > 0


def test_a_step_is_the_sum_of_what_each_kind_of_work_costs() -> None:
    coefficients = load_coefficients()["float32"]["step"]
    work = step_work(config(), SHAPE)
    assert step_seconds(config(), SHAPE) == pytest.approx(
        sum(coefficients[kind] * amount for kind, amount in work.items())
    )
    assert all(value >= 0 for value in coefficients.values())


def test_an_epoch_has_whole_steps_and_a_prediction_of_every_validation_image() -> None:
    step, share = step_seconds(config(), SHAPE), load_coefficients()["float32"]["prediction_share"]
    batch_size = config().training.batch_size
    expected = step * math.ceil(100 / batch_size) + 30 * step * share / batch_size
    assert epoch_seconds(config(), SHAPE, 100, 30) == pytest.approx(expected)


def test_the_deeper_the_longer_until_the_first_step() -> None:
    starts = [start_seconds(config(model__num_blocks=blocks), SHAPE) for blocks in (3, 4, 5, 6)]
    assert starts == sorted(starts)
    assert starts[0] > 0


def test_every_kind_of_work_has_a_coefficient() -> None:
    everything = {"model__cbam": "skip", "model__se": "encoder", "model__dilation": "both", "model__stn": True}
    work = step_work(config(model__base_filters=8, model__attention_gates=True, **everything), SHAPE)
    for precision in PRECISIONS:
        assert set(load_coefficients()[precision]["step"]) == set(work)
