"""What a step changes and what it leaves alone, in the state that a checkpoint holds."""

from typing import Any

import numpy as np
import pytest

from marsseg.config import ExperimentConfig
from marsseg.data.prepare import PreparedData
from marsseg.losses import build_loss
from marsseg.training.network import build_network
from marsseg.training.replica import Replica
from marsseg.training.replicas import Replicas
from marsseg.training.step import build_train_step
from tests.training.conftest import tiny_config

CONFIG = tiny_config(model={"dropout": 0.3}, optimizer={"name": "adamw", "weight_decay": 0.01})
FLOAT16 = CONFIG.with_values({"training.precision": "float16"})


def build(config: ExperimentConfig) -> tuple[Replica, Any]:
    """A replica, and a function that trains it on four images and returns the loss."""
    replicas = Replicas(build_network(config, (16, 32)), config.training, config.optimizer)
    return replicas.first, build_train_step(replicas, build_loss(config.loss, np.ones(5, np.int64)))


def batch(data: PreparedData) -> tuple[np.ndarray, np.ndarray]:
    images, masks = data.train
    return images[:4], masks[:4].astype(np.int32)


def changed(replica: Replica, before: dict[str, dict[str, np.ndarray]]) -> set[str]:
    """The groups that differ; moving statistics among the weights count as a group of their own."""
    return {
        "statistics" if group == "weights" and "moving" in name else group
        for group, arrays in replica.state().items()
        for name, array in arrays.items()
        if not np.array_equal(array, before[group][name])
    }


@pytest.mark.parametrize("config", [CONFIG, FLOAT16])
def test_a_step_changes_everything(config: ExperimentConfig, data: PreparedData) -> None:
    replica, step = build(config)
    before = replica.state()
    assert bool(before["loss_scale"]) == (config is FLOAT16)
    step(*batch(data))
    groups = {"weights", "statistics", "average", "optimizer", "dropout", "steps"}
    assert changed(replica, before) == groups | ({"loss_scale"} if config is FLOAT16 else set())


def test_an_overflow_halves_the_scale_and_moves_statistics_and_generators_alone(data: PreparedData) -> None:
    (replica, step), (_, sound_step) = build(FLOAT16), build(FLOAT16)
    assert replica.loss_scale is not None
    replica.loss_scale.variables[0].assign(2.0**100)
    before = replica.state()
    loss = float(step(*batch(data)))
    # The loss itself is reported without the scale.
    assert loss == float(sound_step(*batch(data)))
    assert 0 < loss < 10
    assert changed(replica, before) == {"statistics", "dropout", "loss_scale"}
    assert replica.state()["loss_scale"] == {"0": 2.0**99, "1": 0}


def test_float16_steps_are_float32_steps_nearly(data: PreparedData) -> None:
    ends = []
    for config in (CONFIG, FLOAT16):
        replica, step = build(config.with_values({"model.dropout": 0.0}))
        losses = [float(step(*batch(data))) for _ in range(5)]
        ends.append((losses, replica.weights.trainable.numpy()))
    np.testing.assert_allclose(ends[0][0], ends[1][0], rtol=0.01)
    # Five steps of Adam, each up to the learning rate, may diverge by 0.01 at most.
    assert np.abs(ends[0][1] - ends[1][1]).mean() < 5e-4


def test_a_state_put_into_another_replica_goes_on_to_the_same_bits(data: PreparedData) -> None:
    replica, step = build(FLOAT16)
    for _ in range(2):
        step(*batch(data))
    # As after one overflow and some steps.
    for variable, value in zip(replica.loss_scale.variables, (2.0**14, 1998), strict=True):  # type: ignore[union-attr]
        variable.assign(value)
    state = replica.state()
    other, other_step = build(FLOAT16.with_values({"seed": 1}))
    other.restore(lambda group: state[group], same_stage=True)
    for _ in range(3):
        assert float(step(*batch(data))) == float(other_step(*batch(data)))
    assert changed(other, replica.state()) == set()
    assert replica.state()["loss_scale"] == {"0": 2.0**15, "1": 1}


def test_another_stage_begins_without_the_optimizers_memory(data: PreparedData) -> None:
    replica, step = build(CONFIG)
    fresh = replica.state()["optimizer"]
    step(*batch(data))
    state = replica.state()
    replica.begin_stage(CONFIG.optimizer)
    replica.restore(lambda group: state[group], same_stage=False)
    assert changed(replica, {**state, "optimizer": fresh}) == set()
