"""The average of a network's weights, against its formula."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from marsseg.training.averaging import WeightAverage
from marsseg.training.weights import FlatWeights

pytestmark = pytest.mark.usefixtures("tensorflow_runtime")


@pytest.fixture
def weights() -> FlatWeights:
    inputs = keras.Input((2, 2, 3))
    return FlatWeights(keras.Model(inputs, keras.layers.BatchNormalization(dtype="float32", name="norm")(inputs)))


def test_every_step_multiplies_by_the_decay_and_fills_up_with_the_weights(weights: FlatWeights) -> None:
    rng = np.random.default_rng(0)
    start = [rng.uniform(1, 2, 3) for _ in range(4)]
    weights.assign(start)
    average = WeightAverage(weights)
    update = tf.function(average.update)
    expected = start
    # The decay is 1/10, 2/11, 3/12, …; from step 890 on it is 0.99, which is 891/900.
    for step, decay in [(0, 0.1), (1, 2 / 11), (2, 0.25), (800, 801 / 810), (899, 0.99), (10**6, 0.99)]:
        now = [rng.uniform(1, 2, 3) for _ in range(4)]
        weights.assign(now)
        update(tf.constant(step, tf.int64))
        expected = [decay * old + (1 - decay) * new for old, new in zip(expected, now, strict=True)]
        np.testing.assert_allclose(average.arrays(), expected, rtol=1e-5)
    np.testing.assert_allclose(weights.arrays(), now, rtol=1e-6)


def test_values_are_copies(weights: FlatWeights) -> None:
    average = WeightAverage(weights)
    before = average.arrays()
    copies = [value.copy() for value in before]
    weights.assign([value + 5 for value in before])
    average.update(tf.constant(0, tf.int64))
    np.testing.assert_array_equal(before, copies)
    assert (np.asarray(average.arrays()) != np.asarray(copies)).all()
