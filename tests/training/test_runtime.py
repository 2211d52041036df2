"""What `auto` becomes, and that threads are settled once."""

import os
from pathlib import Path

import keras
import pytest
import tensorflow as tf

from marsseg.config import ExperimentConfig
from marsseg.errors import TrainingError
from marsseg.training import runtime
from marsseg.training.runtime import apply_precision, available_cores, configure_runtime, resolve_auto


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("fpu avx512f avx512_bf16", "bfloat16"),
        ("fpu amx_bf16 amx_tile", "bfloat16"),
        ("fpu avx512f avx2", "float32"),
        ("", "float32"),
    ],
)
def test_precision_follows_the_processors_flags(
    flags: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\nmodel name\t: any\nflags\t\t: {flags}\n\nflags\t\t: amx_bf16\n")
    monkeypatch.setattr(runtime, "_CPU_INFO", info)
    assert resolve_auto(ExperimentConfig()).training.precision == precision


def test_precision_is_float32_where_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_CPU_INFO", tmp_path / "absent")
    assert resolve_auto(ExperimentConfig()).training.precision == "float32"


@pytest.mark.parametrize(("cores", "workers", "threads"), [(8, 1, 8), (8, 3, 2), (2, 5, 1)])
def test_threads_are_shared_by_the_workers(
    cores: int, workers: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "available_cores", lambda: cores)
    assert resolve_auto(ExperimentConfig(), workers).training.threads == threads


def test_what_is_set_is_left_alone_and_nothing_else_changes() -> None:
    config = ExperimentConfig().with_values({"training.precision": "bfloat16", "training.threads": 3, "seed": 5})
    assert resolve_auto(config) == config
    resolved = resolve_auto(ExperimentConfig())
    assert "auto" not in (resolved.training.precision, resolved.training.threads)
    assert resolve_auto(resolved) == resolved
    assert resolved.with_values({"training.precision": "auto", "training.threads": "auto"}) == ExperimentConfig()


def test_available_cores_are_those_that_this_process_may_use() -> None:
    assert available_cores() == len(os.sched_getaffinity(0))


def test_another_number_of_threads_is_refused_once_tensorflow_computes(tensorflow_runtime: int) -> None:
    assert float(tf.reduce_sum(tf.ones(3))) == 3
    configure_runtime(tensorflow_runtime)
    with pytest.raises(TrainingError, match=f"already computes with {tensorflow_runtime} threads, expected 7"):
        configure_runtime(7)
    assert tf.config.threading.get_intra_op_parallelism_threads() == tensorflow_runtime
    assert tf.config.threading.get_inter_op_parallelism_threads() == tensorflow_runtime


@pytest.mark.parametrize(("precision", "compute"), [("bfloat16", "bfloat16"), ("float32", "float32")])
def test_precision_is_the_compute_type_and_weights_stay_float32(precision: str, compute: str) -> None:
    before = keras.config.dtype_policy()
    try:
        apply_precision(precision)
        layer = keras.layers.Dense(2)
        assert (layer.compute_dtype, layer.variable_dtype) == (compute, "float32")
    finally:
        keras.config.set_dtype_policy(before)
