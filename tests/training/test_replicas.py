"""Several devices, one training run: two logical CPU devices stand in for GPUs, in processes of their own."""

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marsseg.config import ExperimentConfig
from marsseg.errors import TrainingError
from marsseg.training.replica import Arrays
from marsseg.training.replicas import Replicas, training_devices
from tests.training.conftest import tiny_config, tiny_data

# A mean over pixels and no normalisation: the devices' results add up to that of one device for the whole batch.
PLAIN = tiny_config(model={"normalization": "none"}, optimizer={"name": "sgd", "learning_rate": 0.1})
# Everything that has state, in the precision that has a loss scale; the stage changes after the first epoch.
EVERYTHING = tiny_config(
    model={"dropout": 0.3},
    augmentation={"flips": True},
    optimizer={"name": "adamw", "weight_decay": 1e-3, "learning_rate": 0.02},
    loss={"terms": "dice"},
    warmup={"epochs": 1, "optimizer.learning_rate": 0.05},
    training={"precision": "float16"},
)


def on_two(config: ExperimentConfig) -> ExperimentConfig:
    return config.with_values({"training.gpus": 2})


@pytest.fixture(scope="module")
def two_devices() -> Iterator[ProcessPoolExecutor]:
    """A process in which TensorFlow sees the CPU as two devices."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context, _divide_the_processor) as pool:
        yield pool


def _divide_the_processor() -> None:
    import tensorflow as tf

    from marsseg.training.runtime import configure_runtime

    (processor,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
    configure_runtime(2)


def run(pool: ProcessPoolExecutor, function: Callable[..., Any], *arguments: Any) -> Any:
    return pool.submit(function, *arguments).result(timeout=300)


def take_steps(config: ExperimentConfig, batches: list[int]) -> tuple[list[float], list[dict[str, Arrays]]]:
    """The loss of one step for each batch size, and the final states of all replicas."""
    from marsseg.losses import build_loss
    from marsseg.training.network import build_network
    from marsseg.training.step import build_train_step

    replicas = Replicas(build_network(config, (16, 32)), config.training, config.optimizer)
    step = build_train_step(replicas, build_loss(config.loss, np.ones(5, np.int64)))
    images, masks = tiny_data().train
    losses = [float(step(images[:count], masks[:count].astype(np.int32))) for count in batches]
    assert step.experimental_get_tracing_count() == 1
    assert [replica.weights.trainable.device[-5:] for replica in replicas.all] == ["CPU:0", "CPU:1"][
        : len(replicas.all)
    ]
    return losses, [replica.state() for replica in replicas.all]


# Also an odd batch, and one that leaves a replica without an image.
@pytest.mark.parametrize("batches", [[4, 4, 4], [4, 3, 1]])
def test_plain_mean_comes_out_as_on_one_device(two_devices: ProcessPoolExecutor, batches: list[int]) -> None:
    expected, (one,) = run(two_devices, take_steps, PLAIN, batches)
    losses, states = run(two_devices, take_steps, on_two(PLAIN), batches)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for state in states:
        for path, weights in one["weights"].items():
            np.testing.assert_allclose(state["weights"][path], weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("config", [EVERYTHING, EVERYTHING.with_values({"training.precision": "bfloat16"})])
def test_replicas_stay_equal_to_the_bit_but_drop_different_features(
    two_devices: ProcessPoolExecutor, config: ExperimentConfig
) -> None:
    _, (first, second) = run(two_devices, take_steps, on_two(config), [4, 3, 1])
    for group in first.keys() - {"dropout"}:
        assert first[group].keys() == second[group].keys()
        for name, array in first[group].items():
            np.testing.assert_array_equal(second[group][name], array)
    for (seed, count), (other_seed, other_count) in zip(
        first["dropout"].values(), second["dropout"].values(), strict=True
    ):
        assert count == other_count
        assert abs(int(seed) - int(other_seed)) > 1000


def train_on_two(config: ExperimentConfig, folder: Path, ends: list[int]) -> dict[str, Any]:
    """Trains in segments, each resumed from disk."""
    from marsseg.training.checkpoint import load_latest_checkpoint
    from marsseg.training.trainer import Training
    from tests.training.test_trainer import Recorder, outcome

    for until in ends:
        result = Training(config, tiny_data(), load_latest_checkpoint(folder)).run(until, [Recorder(folder)])
    return outcome(result)


def test_resumed_it_ends_in_the_same_bits(two_devices: ProcessPoolExecutor, tmp_path: Path) -> None:
    config = on_two(EVERYTHING)
    whole = run(two_devices, train_on_two, config, tmp_path / "whole", [3])
    assert run(two_devices, train_on_two, config, tmp_path / "cut", [1, 2, 3]) == whole
    # The loss is a ratio over the batch, and other features are dropped.
    assert run(two_devices, train_on_two, EVERYTHING, tmp_path / "one", [3])["weights"] != whole["weights"]


def devices_for(count: int) -> list[str]:
    return training_devices(count)


def test_more_devices_than_there_are_are_refused(two_devices: ProcessPoolExecutor) -> None:
    assert len(run(two_devices, devices_for, 2)) == 2
    with pytest.raises(TrainingError, match=r"training\.gpus = 3: found none that TensorFlow can use"):
        run(two_devices, devices_for, 3)
