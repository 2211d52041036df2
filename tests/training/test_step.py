"""One training step, and the confusion matrix counted on the device."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from marsseg.config import LossConfig, OptimizerConfig, TrainingConfig
from marsseg.data.prepare import PreparedData
from marsseg.losses import build_loss
from marsseg.metrics import confusion_matrix
from marsseg.training import step as step_room
from marsseg.training.network import build_network
from marsseg.training.replicas import Replicas
from marsseg.training.step import Evaluator, build_train_step
from tests.training.conftest import tiny_config, tiny_data


@pytest.fixture
def model(tensorflow_runtime: int) -> keras.Model:
    return build_network(tiny_config(model={"normalization": "none"}), (16, 32))


def test_step_is_gradient_descent_on_the_loss_and_is_traced_once(model: keras.Model, data: PreparedData) -> None:
    images, masks = data.train
    labels = masks.astype(np.int32)
    loss = build_loss(LossConfig(), np.ones(5, np.int64))
    optimizer = OptimizerConfig(name="sgd", learning_rate=0.1, momentum=0.0)
    replicas = Replicas(model, TrainingConfig(), optimizer)
    replica, step = replicas.first, build_train_step(replicas, loss)

    start = model.get_weights()
    with tf.GradientTape() as tape:
        expected_loss = loss(tf.constant(labels), model(images, training=True))
    gradients = tape.gradient(expected_loss, [weight.value for weight in model.trainable_weights])
    assert float(step(images, labels)) == pytest.approx(float(expected_loss), rel=1e-5)
    for before, gradient, after in zip(start, gradients, replica.weights.arrays(), strict=True):
        np.testing.assert_allclose(after, before - 0.1 * gradient.numpy(), rtol=1e-4, atol=1e-6)
    # The first decay is 1/10.
    for before, after, averaged in zip(start, replica.weights.arrays(), replica.scored_weights(), strict=True):
        np.testing.assert_allclose(averaged, 0.1 * before + 0.9 * after, rtol=1e-4, atol=1e-6)

    step(images[:3], labels[:3])
    step(images[:1], labels[:1])
    assert int(replica.steps_done) == 3
    assert step.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("count", [1, 50, 53])
def test_confusion_matrix_is_that_of_numpy_also_beyond_one_batch(model: keras.Model, count: int) -> None:
    images, masks = tiny_data(num_train=count).train
    evaluator = Evaluator(model, len(images))
    expected = np.argmax(model(images), -1)
    assert len(np.unique(expected)) > 1
    predicted = evaluator.predict_labels(images)
    assert predicted.dtype == np.uint8
    np.testing.assert_array_equal(predicted, expected)
    counts = evaluator.confusion_matrix(images, masks)
    assert counts.sum() == masks.size
    np.testing.assert_array_equal(counts, confusion_matrix(masks, expected, 5))


@pytest.mark.parametrize(("num_images", "batch_size"), [(100, 4), (7, 4), (9, 3), (1, 1)])
def test_batches_divide_the_images_best_and_are_filled_up_with_what_counts_nowhere(
    num_images: int, batch_size: int, model: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_room, "_PIXELS_AT_ONCE", 4 * 16 * 32)
    evaluator = Evaluator(model, num_images)
    assert evaluator.batch_size == batch_size
    for count in (7, 2):
        images, masks = (part[:count] for part in tiny_data().train)
        expected = np.argmax(model(images), -1)
        np.testing.assert_array_equal(evaluator.predict_labels(images), expected)
        assert evaluator.predict_probabilities(images).shape == (*masks.shape, 5)
        np.testing.assert_array_equal(evaluator.confusion_matrix(images, masks), confusion_matrix(masks, expected, 5))


def test_evaluation_changes_no_weight_and_no_dropout_generator(data: PreparedData) -> None:
    model = build_network(tiny_config(model={"dropout": 0.5}), (16, 32))
    before = [np.asarray(variable.numpy()) for variable in model.variables]
    assert len(model.variables) > len(model.weights)
    Evaluator(model, 4).confusion_matrix(*data.validation)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
