"""What `auto` resolves to, and that threads are set once."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from marsseg.config import ExperimentConfig
from marsseg.errors import TrainingError
from marsseg.training import runtime
from marsseg.training.precision import Gpu, Machine, choose_precision
from marsseg.training.runtime import (
    available_cores,
    configure_runtime,
    parse_cpu_flags,
    resolve_auto,
    this_machine,
)

_ON_X86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="elsewhere TensorFlow decides")
# Without the variables that marsseg and earlier tests have set for this process.
_UNSETTLED = {key: value for key, value in os.environ.items() if not key.startswith(("TF_MKL_", "TF_ENABLE_ONEDNN_"))}


def test_precision_follows_the_machines_facts() -> None:
    for machine, precision in [
        (Machine(frozenset({"amx_bf16"})), "bfloat16"),
        (Machine(gpus=(Gpu("Tesla T4", (7, 5)),)), "float16"),
        (Machine(), "float32"),
    ]:
        assert resolve_auto(ExperimentConfig(), machine=machine).training.precision == precision


def test_flags_are_the_first_processors() -> None:
    text = "processor\t: 0\nmodel name\t: any\nflags\t\t: fpu avx2\n\nflags\t\t: fpu amx_bf16\n"
    assert parse_cpu_flags(text) == {"fpu", "avx2"}
    assert parse_cpu_flags("") == frozenset()


def test_this_machine_is_looked_at_where_nothing_else_is_given() -> None:
    machine = this_machine()
    assert machine.cpu_flags == parse_cpu_flags(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    assert resolve_auto(ExperimentConfig()).training.precision == choose_precision(machine).precision


def test_a_driver_without_a_gpu_that_tensorflow_can_use_leaves_the_decision_to_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    # Bypasses the cache, which holds what this process has found before.
    assert this_machine.__wrapped__() == Machine(this_machine().cpu_flags)


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


def test_a_number_of_threads_that_is_not_settled_is_refused() -> None:
    with pytest.raises(TrainingError, match="expected a config without 'auto'"):
        configure_runtime("auto")


@pytest.mark.parametrize("whole", [False, True])
def test_what_keras_is_not_asked_for_is_left_out_unless_the_process_is_somebody_elses(whole: bool) -> None:
    names = ("matplotlib", "pandas", "scipy", "sklearn")
    script = (
        "import sys\n"
        "from marsseg.training.runtime import import_tensorflow_quietly\n"
        f"import_tensorflow_quietly({whole})\n"
        f"print([name for name in {names} if name in sys.modules])\n"
        "import matplotlib.pyplot, pandas, scipy.stats, sklearn, keras\n"
        "print(keras.Sequential([keras.layers.Dense(1)])(keras.ops.ones((2, 3))).shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(list(names) if whole else []), "(2, 1)"]


def test_what_the_user_has_set_for_keras_does_not_reach_a_network(tmp_path: Path) -> None:
    settings = {"floatx": "float16", "image_data_format": "channels_first", "backend": "torch"}
    (tmp_path / "keras.json").write_text(json.dumps(settings), encoding="utf-8")
    script = (
        "from marsseg.training.runtime import import_tensorflow_quietly\n"
        "import_tensorflow_quietly()\n"
        "from marsseg.config import ExperimentConfig\n"
        "from marsseg.training.network import build_network\n"
        "small = {'model.num_blocks': 2, 'model.base_filters': 2, 'training.precision': 'float32'}\n"
        "model = build_network(ExperimentConfig().with_values(small), (16, 32))\n"
        "print(model.input.dtype, model.input.shape, model.output.dtype)\n"
    )
    users = {"KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "jax"}
    command, environment = [sys.executable, "-c", script], {**os.environ, **users}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "float32 (None, 16, 32, 1) float32"


@pytest.mark.parametrize(
    ("before", "chosen", "expected"),
    [("", {}, "1"), ("", {"TF_ENABLE_ONEDNN_OPTS": "0"}, "0"), ("import tensorflow", {}, "None")],
    ids=["by itself", "somebody's choice", "too late"],
)
@_ON_X86
def test_onednn_is_asked_for_where_nobody_has_decided_yet(before: str, chosen: dict[str, str], expected: str) -> None:
    script = f"{before}\nimport os\nimport marsseg\nprint(os.environ.get('TF_ENABLE_ONEDNN_OPTS'))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**_UNSETTLED, **chosen}
    )
    assert done.stdout.strip() == expected


@_ON_X86
def test_how_to_compute_a_gradient_is_looked_up_once_not_in_every_step() -> None:
    script = (
        "import ctypes\n"
        "from marsseg.training.runtime import configure_runtime, import_tensorflow_quietly\n"
        "import_tensorflow_quietly()\n"
        "configure_runtime(1)\n"
        "import tensorflow as tf\n"
        "images, kernel = tf.ones((2, 8, 8, 16)), tf.ones((3, 3, 16, 16))\n"
        "@tf.function\n"
        "def gradients(images, kernel):\n"
        "    with tf.GradientTape() as tape:\n"
        "        tape.watch((images, kernel))\n"
        "        value = tf.reduce_sum(tf.nn.conv2d(images, kernel, 1, 'SAME') ** 2)\n"
        "    return tape.gradient(value, (images, kernel))\n"
        "for _ in range(2):\n"
        "    float(gradients(images, kernel)[1][0, 0, 0, 0])\n"
        "    ctypes.CDLL(None).fflush(None)\n"
        "    print('a step', flush=True)\n"
    )
    environment = {**_UNSETTLED, "ONEDNN_VERBOSE": "2"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    first, second, _ = done.stdout.split("a step\n")
    assert "create:" in first
    assert "backward_weights" in first
    assert "exec" in second
    assert "create:" not in second
