"""Optimizers by config, and learning rates from lists of scores made by hand."""

import keras
import numpy as np
import pytest

from marsseg.config import OptimizerConfig, ScheduleConfig
from marsseg.training.optimizers import build_optimizer, next_learning_rate

PLATEAU = {"name": "plateau", "factor": 0.5, "patience": 2, "min_learning_rate": 0.2}


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([], 1.0),
        ([0.5], 1.0),
        ([0.5, 0.4], 1.0),
        ([0.5, 0.4, 0.4], 0.5),  # two epochs without a gain
        ([0.5, 0.5, 0.5], 0.5),  # an equal score is no gain
        ([0.5, 0.4, 0.6, 0.5], 1.0),  # the gain starts the count anew
        ([0.5, 0.4, 0.4, 0.4], 0.5),  # so does the reduction
        ([0.5, 0.4, 0.4, 0.45, 0.45], 0.25),  # the best is still 0.5
        ([0.5] + [0.1] * 6, 0.2),  # not 0.125
        ([0.5] + [0.1] * 99, 0.2),
        ([0.0, 0.0, 0.0], 0.5),
    ],
)
def test_plateau(scores: list[float], expected: float) -> None:
    assert next_learning_rate(ScheduleConfig.model_validate(PLATEAU), 1.0, scores) == pytest.approx(expected)


def test_plateau_never_raises_a_rate_that_begins_below_its_minimum() -> None:
    schedule = ScheduleConfig.model_validate(PLATEAU)
    assert next_learning_rate(schedule, 0.1, [0.5, 0.1, 0.1, 0.1, 0.1]) == 0.1


def test_constant_ignores_scores() -> None:
    assert next_learning_rate(ScheduleConfig(), 0.3, [0.5, 0.1, 0.1] * 9) == 0.3


@pytest.fixture
def model(tensorflow_runtime: int) -> keras.Model:
    inputs = keras.Input((2,))
    return keras.Model(inputs, keras.layers.Dense(1, use_bias=False, name="dense", dtype="float32")(inputs))


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_slots_exist_before_the_first_step(name: str, model: keras.Model) -> None:
    optimizer = build_optimizer(OptimizerConfig.model_validate({"name": name}), model)
    assert [variable.shape for variable in optimizer.variables] == [(), (), (2, 1), (2, 1)]
    assert float(optimizer.learning_rate) == pytest.approx(1e-3)


@pytest.mark.parametrize(("name", "weight_decay"), [("adam", 0.0), ("adamw", 0.0), ("adamw", 0.1)])
def test_two_steps_by_hand(name: str, weight_decay: float, model: keras.Model) -> None:
    config = OptimizerConfig.model_validate({"name": name, "learning_rate": 0.5, "weight_decay": weight_decay})
    optimizer = build_optimizer(config, model)
    weight = np.array([[1.0], [-2.0]], np.float32)
    model.set_weights([weight])
    first = second = np.zeros((2, 1))
    for step, gradient in enumerate((np.array([[0.3], [-0.1]]), np.array([[-0.2], [0.4]])), start=1):
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], model.trainable_variables)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        weight = weight - 0.5 * weight_decay * weight
        weight = weight - 0.5 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-7)
    np.testing.assert_allclose(model.get_weights()[0], weight, rtol=1e-4)
