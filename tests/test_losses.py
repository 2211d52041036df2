"""Laws of every loss, for any class weights and background weight, and each loss against NumPy."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf

from marsseg.config import LossConfig
from marsseg.config.groups import LossName
from marsseg.losses import build_loss, class_weights

pytestmark = pytest.mark.usefixtures("tensorflow_runtime")

LOSSES: tuple[str, ...] = get_args(LossName)
SHAPE = (2, 8, 12)
PIXELS = np.array([500, 300, 150, 49, 1])
SETTINGS = list(itertools.product(LOSSES, ("none", "frequency", "log"), (0.0, 0.5, 1.0)))

Reference = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def cross_entropy_reference(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> float:
    probability = softmax(logits)
    total = weight_sum = 0.0
    for index in np.ndindex(labels.shape):
        total -= weights[labels[index]] * np.log(probability[index][labels[index]])
        weight_sum += weights[labels[index]]
    return total / weight_sum


def dice_reference(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> float:
    counted = weights[labels] > 0
    labels, probability = labels[counted], softmax(logits)[counted]
    present = [label for label in range(5) if (labels == label).any()]
    terms = {}
    for label in present:
        overlap = probability[labels == label, label].sum()
        terms[label] = 1 - 2 * overlap / (probability[:, label].sum() + (labels == label).sum())
    return sum(weights[label] * terms[label] for label in present) / sum(weights[label] for label in present)


def focal_reference(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> float:
    probability = softmax(logits)
    total = weight_sum = 0.0
    for index in np.ndindex(labels.shape):
        right = probability[index][labels[index]]
        total += weights[labels[index]] * (1 - right) ** 2 * -np.log(right)
        weight_sum += weights[labels[index]]
    return total / weight_sum


def tversky_reference(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray, exponent: float = 1.0) -> float:
    counted = weights[labels] > 0
    labels, probability = labels[counted], softmax(logits)[counted]
    present = [label for label in range(5) if (labels == label).any()]
    total = 0.0
    for label in present:
        hits = probability[labels == label, label].sum()
        missed = (1 - probability[labels == label, label]).sum()
        false_alarms = probability[labels != label, label].sum()
        total += weights[label] * (1 - hits / (hits + 0.7 * missed + 0.3 * false_alarms)) ** exponent
    return total / sum(weights[label] for label in present)


def lovasz_reference(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> float:
    """The Lovász extension by its definition: pixels join a set, worst first, each weighted by its marginal loss."""
    counted = weights[labels] > 0
    labels, probability = labels[counted], softmax(logits)[counted]
    present = [label for label in range(5) if (labels == label).any()]
    total = 0.0
    for label in present:
        true = set(np.flatnonzero(labels == label).tolist())
        errors = np.abs((labels == label) - probability[:, label])
        wrong: set[int] = set()
        for pixel in np.argsort(-errors).tolist():
            before = len(wrong) / len(true | wrong)
            wrong.add(pixel)
            # With exactly these pixels wrong, the prediction is the symmetric difference of them and the true ones.
            total += weights[label] * errors[pixel] * (len(wrong) / len(true | wrong) - before)
    return total / sum(weights[label] for label in present)


REFERENCES: dict[str, Reference] = {
    "cross_entropy": cross_entropy_reference,
    "focal": focal_reference,
    "dice": dice_reference,
    "tversky": tversky_reference,
    "focal_tversky": partial(tversky_reference, exponent=0.75),
    "lovasz_softmax": lovasz_reference,
}


def config_of(name: str, weights: str, background: float) -> LossConfig:
    return LossConfig.model_validate({"terms": name, "class_weights": weights, "background_weight": background})


def value_and_gradient(config: LossConfig, labels: np.ndarray, logits: np.ndarray) -> tuple[float, np.ndarray]:
    variable = tf.Variable(logits.astype(np.float32))
    with tf.GradientTape() as tape:
        value = build_loss(config, PIXELS)(tf.constant(labels, tf.int32), variable)
    assert value.dtype == tf.float32
    assert value.shape == ()
    return float(value), tape.gradient(value, variable).numpy()


@pytest.fixture
def labels() -> np.ndarray:
    labels = np.random.default_rng(0).integers(0, 5, SHAPE)
    assert len(np.unique(labels)) == 5
    return labels


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 2, (*SHAPE, 5))


@pytest.mark.parametrize(("name", "weights", "background"), SETTINGS)
class TestLoss:
    def test_a_perfect_prediction_costs_nothing(
        self, name: str, weights: str, background: float, labels: np.ndarray
    ) -> None:
        value, gradient = value_and_gradient(config_of(name, weights, background), labels, 40 * np.eye(5)[labels])
        assert value == pytest.approx(0, abs=1e-6)
        np.testing.assert_allclose(gradient, 0, atol=1e-6)

    def test_the_better_the_prediction_the_lower_the_value(
        self, name: str, weights: str, background: float, labels: np.ndarray, logits: np.ndarray
    ) -> None:
        config = config_of(name, weights, background)
        values = [
            value_and_gradient(config, labels, 0.5 * logits + push * np.eye(5)[labels])[0] for push in (-4, 0, 2, 4, 8)
        ]
        assert values == sorted(values, reverse=True)
        assert values[0] > values[-1] + 0.1

    def test_value_is_that_of_an_independent_formula(
        self, name: str, weights: str, background: float, labels: np.ndarray, logits: np.ndarray
    ) -> None:
        config = config_of(name, weights, background)
        value, _ = value_and_gradient(config, labels, logits)
        assert value == pytest.approx(REFERENCES[name](labels, logits, class_weights(config, PIXELS)), rel=1e-5)

    def test_gradient_points_uphill(
        self, name: str, weights: str, background: float, labels: np.ndarray, logits: np.ndarray
    ) -> None:
        config = config_of(name, weights, background)
        _, gradient = value_and_gradient(config, labels, logits)
        assert np.isfinite(gradient).all()
        direction = np.random.default_rng(2).normal(size=logits.shape)
        reference = lambda x: REFERENCES[name](labels, x, class_weights(config, PIXELS))  # noqa: E731
        slope = (reference(logits + 1e-5 * direction) - reference(logits - 1e-5 * direction)) / 2e-5
        assert (gradient * direction).sum() == pytest.approx(slope, rel=1e-3, abs=1e-6)

    @pytest.mark.parametrize("present", [(0, 1, 2, 3), (1, 4), (4,), (0,)])
    def test_absent_classes_leave_value_and_gradient_finite(
        self, name: str, weights: str, background: float, present: tuple[int, ...], logits: np.ndarray
    ) -> None:
        some = np.random.default_rng(3).choice(present, SHAPE)
        config = config_of(name, weights, background)
        value, gradient = value_and_gradient(config, some, logits)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        if present == (0,) and background == 0:
            assert value == 0
            assert not gradient.any()
        else:
            assert value == pytest.approx(REFERENCES[name](some, logits, class_weights(config, PIXELS)), rel=1e-5)
            assert gradient.any()


@pytest.mark.parametrize("weights", ["none", "frequency", "log"])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [1.0, 100.0, 1e30, 3e38])
def test_pixels_left_out_change_neither_value_nor_gradient(
    name: str, weights: str, scale: float, labels: np.ndarray, logits: np.ndarray
) -> None:
    config = config_of(name, weights, 0.0)
    value, gradient = value_and_gradient(config, labels, logits)
    left_out = labels == 0
    changed = logits.copy()
    changed[left_out] = scale * np.random.default_rng(4).uniform(-1, 1, (left_out.sum(), 5))
    other_value, other_gradient = value_and_gradient(config, labels, changed)
    assert other_value == value
    np.testing.assert_array_equal(other_gradient, gradient)
    assert not gradient[left_out].any()
    assert gradient[~left_out].any(axis=-1).all()


@pytest.mark.parametrize("name", LOSSES)
def test_background_weight_1_counts_background_like_any_class(
    name: str, labels: np.ndarray, logits: np.ndarray
) -> None:
    values = [value_and_gradient(config_of(name, "none", weight), labels, logits)[0] for weight in (0.0, 0.5, 1.0)]
    assert len(set(values)) == 3
    assert values[2] == pytest.approx(REFERENCES[name](labels, logits, np.ones(5)), rel=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0, 1e4])
@pytest.mark.parametrize("name", ["focal", "tversky", "focal_tversky"])
@pytest.mark.parametrize("steepness", [0.25, 0.5, 1.0, 3.0])
def test_powers_stay_finite_however_sure_the_network_is(
    name: str, steepness: float, scale: float, labels: np.ndarray
) -> None:
    parameters = {"focal_gamma": steepness, "focal_tversky_exponent": steepness}
    config = LossConfig.model_validate({"terms": name, **parameters})
    for logits in (scale * np.eye(5)[labels], -scale * np.eye(5)[labels], np.zeros((*SHAPE, 5))):
        value, gradient = value_and_gradient(config, labels, logits)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_focal_loss_with_gamma_0_is_cross_entropy(labels: np.ndarray, logits: np.ndarray) -> None:
    config = LossConfig.model_validate({"terms": "focal", "focal_gamma": 0.0, "class_weights": "log"})
    value, gradient = value_and_gradient(config, labels, logits)
    same, same_gradient = value_and_gradient(config_of("cross_entropy", "log", 1.0), labels, logits)
    assert value == pytest.approx(same, rel=1e-6)
    np.testing.assert_allclose(gradient, same_gradient, rtol=1e-4, atol=1e-9)


def test_lovasz_gradient_keeps_its_digits_over_a_whole_batch() -> None:
    random = np.random.default_rng(0)
    labels = random.choice(5, (4, 64, 128), p=[0.3, 0.4, 0.2, 0.099, 0.001])
    logits = random.normal(0, 1, (*labels.shape, 5)) + 2 * np.eye(5)[labels]
    _, gradient = value_and_gradient(config_of("lovasz_softmax", "none", 1.0), labels, logits)
    probability = softmax(logits.astype(np.float32).astype(np.float64)).reshape(-1, 5)
    slopes = np.zeros_like(probability)
    for label in range(5):
        is_true = labels.ravel() == label
        order = np.argsort(-np.abs(is_true - probability[:, label]), kind="stable")
        wrong, false = np.arange(1, len(order) + 1), np.cumsum(~is_true[order])
        # The wrong pixels over those that are wrong or true.
        jaccard_loss = wrong / (is_true.sum() + false)
        slopes[order, label] = np.diff(jaccard_loss, prepend=0) * np.where(is_true[order], -1, 1) / 5
    expected = probability * (slopes - (slopes * probability).sum(axis=1, keepdims=True))
    found = gradient.reshape(-1, 5)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    # All pixels but the few whose order float32 cannot resolve.
    close = np.isclose(found, expected, rtol=1e-3, atol=1e-12)
    assert close.mean() > 0.99


def test_lovasz_loss_of_a_sure_prediction_is_the_mean_of_1_minus_iou(labels: np.ndarray) -> None:
    predicted = np.random.default_rng(5).integers(0, 5, SHAPE)
    value, _ = value_and_gradient(config_of("lovasz_softmax", "none", 1.0), labels, 60 * np.eye(5)[predicted])
    iou = [((labels == c) & (predicted == c)).sum() / ((labels == c) | (predicted == c)).sum() for c in range(5)]
    assert value == pytest.approx(1 - np.mean(iou), rel=1e-5)


def test_alpha_weighs_what_is_missed_and_beta_false_alarms() -> None:
    labels = np.array([[[1, 1, 2, 2]]])
    # Half of class 1 is predicted as class 2: false negatives for class 1, false positives for class 2.
    logits = 40 * np.eye(5)[[[[1, 2, 2, 2]]]]
    config = LossConfig.model_validate({"terms": "tversky", "tversky_alpha": 0.8, "tversky_beta": 0.4})
    value, _ = value_and_gradient(config, labels, logits)
    # Class 1: TP 1, FN 1, FP 0. Class 2: TP 2, FN 0, FP 1.
    assert value == pytest.approx(((1 - 1 / 1.8) + (1 - 2 / 2.4)) / 2, rel=1e-6)


def test_terms_add_up_with_their_weights(labels: np.ndarray, logits: np.ndarray) -> None:
    both, _ = value_and_gradient(config_of("0.5*cross_entropy+2*dice", "log", 1.0), labels, logits)
    alone = [value_and_gradient(config_of(name, "log", 1.0), labels, logits)[0] for name in ("cross_entropy", "dice")]
    assert both == pytest.approx(0.5 * alone[0] + 2 * alone[1], rel=1e-6)


@pytest.mark.parametrize(
    ("weights", "background", "expected"),
    [
        ("none", 0.5, [0.5, 1, 1, 0]),
        # Shares 1/2, 1/4, 1/4: inverse 2, 4, 4, with mean 10/3.
        ("frequency", 1.0, [0.6, 1.2, 1.2, 0]),
        ("frequency", 0.0, [0, 1.2, 1.2, 0]),
        # ln 3 = 1.0986, ln 5 = 1.6094; mean 1.4392.
        ("log", 0.5, [0.5 * 0.76337, 1.11831, 1.11831, 0]),
    ],
)
def test_class_weights_by_hand(weights: str, background: float, expected: list[float]) -> None:
    found = class_weights(config_of("dice", weights, background), np.array([200, 100, 100, 0]))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert found.dtype == np.float32
