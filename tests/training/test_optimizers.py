"""Optimizers by config, against the papers' formulas and Keras' own."""

from collections.abc import Callable, Iterator
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from marsseg.config import OptimizerConfig
from marsseg.training.optimizers import Optimizer

pytestmark = pytest.mark.usefixtures("tensorflow_runtime")


BETA_1, BETA_2, EPSILON, MOMENTUM = 0.9, 0.999, 1e-7, 0.8


def changes_by_adam(gradients: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Kingma & Ba (2014), algorithm 1: what each step subtracts at a learning rate of 1."""
    m, v = 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        m = BETA_1 * m + (1 - BETA_1) * g
        v = BETA_2 * v + (1 - BETA_2) * g**2
        yield (m / (1 - BETA_1**t)) / (np.sqrt(v / (1 - BETA_2**t)) + EPSILON)


def changes_by_nadam(gradients: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Dozat (2016), algorithm 8, with the warm-up of his momentum: μ_t = β₁(1 - 0.96ᵗ / 2).

    Keras differs from the paper in two ways: 0.96ᵗ is not raised to 1/250, and m decays by β₁, not by μ_t.
    """
    m, v, product = 0.0, 0.0, 1.0
    for t, g in enumerate(gradients, start=1):
        now, following = (BETA_1 * (1 - 0.5 * 0.96**step) for step in (t, t + 1))
        m = BETA_1 * m + (1 - BETA_1) * g
        v = BETA_2 * v + (1 - BETA_2) * g**2
        product *= now
        m_hat = following * m / (1 - product * following) + (1 - now) * g / (1 - product)
        yield m_hat / (np.sqrt(v / (1 - BETA_2**t)) + EPSILON)


def changes_by_sgd(gradients: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Polyak's heavy ball."""
    velocity = 0.0
    for g in gradients:
        velocity = MOMENTUM * velocity + g
        yield velocity


CHANGES = {"adam": changes_by_adam, "adamw": changes_by_adam, "nadam": changes_by_nadam, "sgd": changes_by_sgd}


def optimizer_config(name: str, weight_decay: float = 0.0) -> OptimizerConfig:
    momentum = {"momentum": MOMENTUM} if name == "sgd" else {}
    values = {"name": name, "learning_rate": 0.5, "weight_decay": weight_decay, **momentum}
    return OptimizerConfig.model_validate(values)


@pytest.mark.parametrize(
    ("name", "weight_decay"),
    [(name, decay) for name in CHANGES for decay in (0.0, 0.1) if (name, decay) != ("adam", 0.1)],
)
def test_three_steps_by_hand(name: str, weight_decay: float) -> None:
    weights = tf.Variable([1.0, -2.0])
    optimizer = Optimizer(optimizer_config(name, weight_decay), weights)
    expected = weights.numpy()
    gradients = [np.array([0.3, -0.1]), np.array([-0.2, 0.4]), np.array([0.05, 0.0])]
    for gradient, change in zip(gradients, CHANGES[name](gradients), strict=True):
        optimizer.apply(tf.constant(gradient, tf.float32))
        # Loshchilov & Hutter (2017), algorithm 2: the decay never enters the moments.
        expected = expected - 0.5 * change - 0.5 * weight_decay * expected
        np.testing.assert_allclose(weights, expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["adamw", "nadam", "sgd"])
def test_weight_without_gradient_shrinks_by_learning_rate_times_decay(name: str) -> None:
    weights = tf.Variable([1.0, -2.0])
    optimizer = Optimizer(optimizer_config(name, weight_decay=0.25), weights)
    for step in range(1, 4):
        optimizer.apply(tf.zeros(2))
        # All of these are exact in float32.
        np.testing.assert_array_equal(weights, np.array([1.0, -2.0]) * 0.875**step)


@pytest.mark.parametrize("name", CHANGES)
def test_state_put_into_a_new_optimizer_goes_on_to_the_same_bits(name: str) -> None:
    gradients = [tf.constant([0.3 / t, -0.1 * t]) for t in range(1, 5)]
    ends = []
    for pause_after in (None, 2):
        weights = tf.Variable([1.0, -2.0])
        optimizer = Optimizer(optimizer_config(name), weights)
        for step, gradient in enumerate(gradients):
            if step == pause_after:
                # The state that a checkpoint holds.
                state = [variable.numpy() for variable in optimizer.variables]
                optimizer = Optimizer(optimizer_config(name), weights)
                for variable, value in zip(optimizer.variables, state, strict=True):
                    variable.assign(value)
            optimizer.apply(gradient)
        ends.append(weights.numpy())
    np.testing.assert_array_equal(*ends)


KERAS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "adam": keras.optimizers.Adam,
    "adamw": partial(keras.optimizers.AdamW, weight_decay=0.01),
    "nadam": partial(keras.optimizers.Nadam, weight_decay=0.01),
    "sgd": partial(keras.optimizers.SGD, weight_decay=0.01, momentum=MOMENTUM),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_hundred_steps_are_keras_own(name: str) -> None:
    luck = np.random.default_rng(0)
    start = luck.normal(size=60).astype(np.float32)
    ours, theirs = tf.Variable(start), keras.Variable(start, dtype="float32")
    optimizer = Optimizer(optimizer_config(name, 0.0 if name == "adam" else 0.01), ours)
    library = KERAS[name](learning_rate=0.5)
    apply = tf.function(optimizer.apply)
    for step in range(100):
        gradient = tf.constant(luck.normal(size=60).astype(np.float32))
        if step == 50:
            optimizer.learning_rate.assign(0.1)
            library.learning_rate.assign(0.1)
        apply(gradient)
        library.apply([gradient], [theirs])
        # Both round about a dozen times per step, each in its own order.
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-5)
    assert np.abs(ours.numpy() - start).min() > 1e-3
