"""The average of a network's weights, against its formula."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from marsseg.training.averaging import WeightAverage

pytestmark = pytest.mark.usefixtures("tensorflow_runtime")


@pytest.fixture
def model() -> keras.Model:
    inputs = keras.Input((2, 2, 3))
    return keras.Model(inputs, keras.layers.BatchNormalization(dtype="float32", name="norm")(inputs))


def test_every_step_multiplies_by_the_decay_and_fills_up_with_the_weights(model: keras.Model) -> None:
    rng = np.random.default_rng(0)
    start = [rng.uniform(1, 2, 3) for _ in range(4)]
    model.set_weights(start)
    average = WeightAverage(model)
    update = tf.function(average.update)
    expected = start
    # 1/10, 2/11, 3/12; from step 890 on it is 0.99, which 899/908 would be first to exceed.
    for step, decay in [(0, 0.1), (1, 2 / 11), (2, 0.25), (800, 801 / 810), (899, 0.99), (10**6, 0.99)]:
        weights = [rng.uniform(1, 2, 3) for _ in range(4)]
        model.set_weights(weights)
        update(tf.constant(step, tf.int64))
        expected = [decay * old + (1 - decay) * new for old, new in zip(expected, weights, strict=True)]
        np.testing.assert_allclose(average.values(), expected, rtol=1e-5)
    np.testing.assert_allclose(model.get_weights(), weights, rtol=1e-6)


def test_the_model_has_the_average_inside_the_context_alone(model: keras.Model) -> None:
    average = WeightAverage(model)
    average.assign([np.full(3, float(index), np.float32) for index in range(4)])
    own = [np.full(3, 7.0, np.float32)] * 4
    model.set_weights(own)
    with average.applied_to(model):
        np.testing.assert_array_equal(model.get_weights(), average.values())
        assert model.get_weights()[3].tolist() == [3.0] * 3
    np.testing.assert_array_equal(model.get_weights(), own)
    with pytest.raises(RuntimeError, match="on purpose"), average.applied_to(model):
        raise RuntimeError("on purpose")
    np.testing.assert_array_equal(model.get_weights(), own)


def test_values_are_copies(model: keras.Model) -> None:
    average = WeightAverage(model)
    before = average.values()
    copies = [value.copy() for value in before]
    model.set_weights([value + 5 for value in before])
    average.update(tf.constant(0, tf.int64))
    np.testing.assert_array_equal(before, copies)
    assert (np.asarray(average.values()) != np.asarray(copies)).all()
