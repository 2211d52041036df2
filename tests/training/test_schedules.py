"""Learning rates, from hand-made lists of scores and against independent implementations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marsseg.config import ScheduleConfig
from marsseg.training.schedules import next_learning_rate

PLATEAU = ScheduleConfig(name="plateau", factor=0.5, patience=2, min_learning_rate=0.2)
SCHEDULES = [
    ScheduleConfig(),
    PLATEAU,
    ScheduleConfig(name="exponential", factor=0.9, hold_epochs=3),
    ScheduleConfig(name="cosine", climb_epochs=3, min_learning_rate=0.001),
]


def rates(schedule: ScheduleConfig, initial: float, num_epochs: int) -> list[float]:
    """The rates of all epochs if no score exceeds the first."""
    return [next_learning_rate(schedule, initial, num_epochs, [0.5] * finished) for finished in range(num_epochs)]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([], 1.0),
        ([0.5], 1.0),
        ([0.5, 0.4], 1.0),
        ([0.5, 0.4, 0.4], 0.5),  # two epochs without a gain
        ([0.5, 0.5, 0.5], 0.5),  # an equal score is not a gain
        ([0.5, 0.4, 0.6, 0.5], 1.0),  # the gain restarts the count
        ([0.5, 0.4, 0.4, 0.4], 0.5),  # so does the reduction
        ([0.5, 0.4, 0.4, 0.45, 0.45], 0.25),  # the best is still 0.5
        ([0.5] + [0.1] * 6, 0.2),  # not 0.125
        ([0.5] + [0.1] * 99, 0.2),
        ([0.0, 0.0, 0.0], 0.5),
    ],
)
def test_plateau(scores: list[float], expected: float) -> None:
    assert next_learning_rate(PLATEAU, 1.0, 200, scores) == pytest.approx(expected)


def test_exponential_holds_and_then_falls_by_the_factor_each_epoch() -> None:
    schedule = ScheduleConfig(name="exponential", factor=0.5, hold_epochs=3, min_learning_rate=0.1)
    assert rates(schedule, 0.8, 7) == pytest.approx([0.8, 0.8, 0.8, 0.4, 0.2, 0.1, 0.1])
    assert rates(schedule.model_copy(update={"hold_epochs": 0}), 0.8, 3) == pytest.approx([0.4, 0.2, 0.1])


@pytest.mark.parametrize("num_epochs", [1, 2, 9, 27])
def test_exponential_is_keras_decay_of_one_epoch_a_step(num_epochs: int, tensorflow_runtime: int) -> None:
    import keras

    schedule = ScheduleConfig(name="exponential", factor=0.9, hold_epochs=1, min_learning_rate=0.0)
    keras_own = keras.optimizers.schedules.ExponentialDecay(0.01, decay_steps=1, decay_rate=0.9)
    assert rates(schedule, 0.01, num_epochs) == pytest.approx(
        [float(keras_own(e)) for e in range(num_epochs)], rel=1e-5
    )


@pytest.mark.parametrize("climb_epochs", [0, 4])
def test_cosine_is_keras_decay_after_its_climb(climb_epochs: int, tensorflow_runtime: int) -> None:
    import keras

    initial, lowest, num_epochs = 0.01, 0.001, 20
    schedule = ScheduleConfig(name="cosine", climb_epochs=climb_epochs, min_learning_rate=lowest)
    found = rates(schedule, initial, num_epochs)
    keras_own = keras.optimizers.schedules.CosineDecay(initial, num_epochs - climb_epochs, alpha=lowest / initial)
    falling = [float(keras_own(epoch)) for epoch in range(num_epochs - climb_epochs)]
    assert found[climb_epochs:] == pytest.approx(falling, rel=1e-5)
    steps = [later - earlier for earlier, later in zip([0.0, *found], found[: climb_epochs + 1], strict=False)]
    assert steps == pytest.approx([initial / (climb_epochs + 1)] * (climb_epochs + 1)), "equal steps up to the rate"


@given(
    schedule=st.sampled_from(SCHEDULES),
    initial=st.floats(1e-5, 1.0),
    num_epochs=st.integers(1, 60),
    scores=st.lists(st.floats(0, 1), max_size=59),
)
def test_every_rate_is_above_0_and_at_most_the_first_one_named(
    schedule: ScheduleConfig, initial: float, num_epochs: int, scores: list[float]
) -> None:
    rate = next_learning_rate(schedule, initial, num_epochs, scores[: num_epochs - 1])
    assert 0 < rate <= initial * (1 + 1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.name)
def test_a_rate_that_begins_below_the_minimum_is_never_raised(schedule: ScheduleConfig) -> None:
    low = schedule.model_copy(update={"min_learning_rate": 0.5, "climb_epochs": 0})
    assert rates(low, 0.1, 9) == pytest.approx([0.1] * 9)


def test_constant_ignores_scores() -> None:
    assert next_learning_rate(ScheduleConfig(), 0.3, 40, [0.5, 0.1, 0.1] * 9) == 0.3
