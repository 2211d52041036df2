"""The loss scale, step by step with gradients made by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf

from marsseg.training.loss_scale import LossScale

pytestmark = pytest.mark.usefixtures("tensorflow_runtime")

FINITE, INFINITE, NAN = [3.0, -1.5], [3.0, np.inf], [np.nan, 0.0]


class Taker:
    """Takes gradients as a training step does, and sums those that the loss scale passes on."""

    def __init__(self) -> None:
        self.scale = LossScale()
        self.total = tf.Variable([0.0, 0.0])
        self._apply = tf.function(self._take)

    def _take(self, gradient: tf.Tensor) -> None:
        self.scale.apply(gradient, lambda given: self.total.assign_add(given))

    def __call__(self, *gradients: Sequence[float]) -> list[float]:
        for gradient in gradients:
            self._apply(tf.constant(gradient, tf.float32))
        return [float(variable) for variable in self.scale.variables]


def test_finite_gradient_comes_back_as_it_was_without_the_scale() -> None:
    taker = Taker()
    assert float(taker.scale.multiply(tf.constant(3.0))) == 3.0 * 2**15
    assert taker([3.0 * 2**15, -0.1 * 2**15]) == [2.0**15, 1]
    np.testing.assert_array_equal(taker.total, np.array([3.0, -0.1], np.float32))


@pytest.mark.parametrize("gradient", [INFINITE, NAN])
def test_overflow_halves_the_scale_skips_the_step_and_counts_anew(gradient: list[float]) -> None:
    taker = Taker()
    assert taker(FINITE, FINITE) == [2.0**15, 2]
    before = taker.total.numpy()
    assert taker(gradient) == [2.0**14, 0]
    np.testing.assert_array_equal(taker.total, before)
    assert taker(gradient, FINITE) == [2.0**13, 1]
    np.testing.assert_array_equal(taker.total, before + np.array(FINITE, np.float32) / 2**13)


def test_two_thousand_finite_steps_in_a_row_double_the_scale() -> None:
    taker = Taker()
    assert taker(FINITE, INFINITE, *[FINITE] * 1999) == [2.0**14, 1999]
    assert taker(FINITE) == [2.0**15, 0]


def test_scale_stops_growing_before_it_could_become_infinite() -> None:
    taker = Taker()
    taker.scale.variables[0].assign(2.0**24)
    taker.scale.variables[1].assign(1999)
    assert taker(FINITE) == [2.0**24, 0]


def test_scale_below_one_is_exhausted() -> None:
    taker = Taker()
    assert taker(*[INFINITE] * 15) == [1.0, 0]
    assert not taker.scale.is_exhausted
    assert taker(NAN) == [0.5, 0]
    assert taker.scale.is_exhausted
