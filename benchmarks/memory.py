"""Resident memory of a process that trains one network after another: after 5 trials and after 30, each at rest.

Ours is a search's own worker, on as many threads as a search gives it: configurations drawn at random from the shipped
space `cpu`, one epoch each on a few synthetic tiles, with checkpoint, validation and plots. Each trial is then paused,
as most trials of a search are, and its network kept until the next one; the trials after which we measure, the 5th and
the 30th, are completed. No two networks are alike, which is the worst case: oneDNN caches the primitives of the latest
shapes, about a thousand per thread. A worker that has grown since its first five tasks, by less than the promised
tenth, leaves the next task to a fresh process: "one worker" is one worker of a search, and may be several `processes`
in turn. Another row reports the most memory held after any later trial, mostly with its network kept.

The peer is a loop in plain Keras as its documentation teaches: it builds, compiles and fits a plain U-Net of the same
depth, widths and batch size on the same tiles and threads (before 2026-11-29 on all cores), and calls `clear_session`
after each network. It has imported this package for its configurations and tiles, so TensorFlow uses oneDNN there as it
does for ours.
"""

import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import psutil

from benchmarks.processes import resident_mib, run_fresh
from benchmarks.results import Promise, Result
from marsseg.config import ExperimentConfig
from marsseg.data.prepare import PreparedData, prepare_data
from marsseg.jobs.devices import default_workers
from marsseg.jobs.shipped import find_space
from marsseg.jobs.worker import FINAL_KINDS, TrainTask, serve
from marsseg.search.engines import build_proposer
from marsseg.search.executor import LocalExecutor
from marsseg.search.space_file import load_space
from marsseg.training.runtime import import_tensorflow_quietly, resolve_auto

EARLY, TRIALS = 5, 30
PROMISE = 1.1
_FEW_TILES = {"data.synthetic_images": 80, "split.validation_images": 16, "split.test_images": 8}
_REST_S = _POLL_S = 1.0


def draw_configs() -> Iterator[ExperimentConfig]:
    """The configurations, always the same ones."""
    space = load_space(find_space("cpu"))
    base = resolve_auto(ExperimentConfig().with_values({**space.fixed, **_FEW_TILES}), default_workers())
    proposer = build_proposer("optuna", "random", space)
    for trial in range(TRIALS):
        max_epochs = 1 if trial + 1 in (EARLY, TRIALS) else 2
        yield base.with_values({**proposer.propose([], seed=trial), "seed": trial, "training.max_epochs": max_epochs})


def load_data() -> PreparedData:
    return prepare_data(next(draw_configs()))


def measure_ours() -> list[tuple[int, float]]:
    """Trains as a search does with one worker; returns the worker's process ID and MiB after each trial."""
    digest = load_data().fingerprint.digest
    executor = LocalExecutor(serve, 1, FINAL_KINDS)
    figures = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            for trial, config in enumerate(draw_configs()):
                here = Path(folder) / str(trial)
                executor.submit(trial, TrainTask(config.to_json(), here / "trial", 1, digest, here / "log"))
                while not (final := [each for each in executor.poll(_POLL_S) if each.kind in {*FINAL_KINDS, "died"}]):
                    pass
                if final[0].kind != "done":
                    raise RuntimeError(f"trial {trial} failed: {final[0].body}")
                (worker,) = multiprocessing.active_children()
                figures.append((worker.pid or 0, resident_mib_at_rest(psutil.Process(worker.pid))))
    finally:
        executor.close()
    return figures


def resident_mib_at_rest(process: psutil.Process) -> float:
    """The memory of a process once it has nothing more to do."""
    before = None
    # A worker frees its memory after it has reported its result.
    while (now := process.cpu_times()[:2]) != before:
        before = now
        time.sleep(_REST_S)
    return resident_mib(process.pid)


def resident_mib_of_peer() -> list[float]:
    """Trains in this process, with plain Keras; MiB after each network."""
    import_tensorflow_quietly()
    import keras
    import tensorflow as tf

    from benchmarks.sides.plain_keras import build_unet

    images, masks = load_data().train
    configs = list(draw_configs())
    # As many as ours: oneDNN's caches are per thread.
    tf.config.threading.set_intra_op_parallelism_threads(configs[0].training.threads)
    tf.config.threading.set_inter_op_parallelism_threads(configs[0].training.threads)
    figures = []
    for config in configs:
        network = config.model
        model = build_unet(network.base_filters, network.num_blocks, network.max_filters)
        model.compile(config.optimizer.name, "sparse_categorical_crossentropy")
        model.fit(images, masks, config.training.batch_size, verbose=0)
        del model
        keras.backend.clear_session()
        figures.append(resident_mib())
    return figures


def main() -> None:
    workers, ours = zip(*measure_ours(), strict=True)
    peer = run_fresh(__file__, "peer")
    peer_name = f"Keras {metadata.version('keras')}, float32"
    details = {
        "processes": len(set(workers)),
        "ours_mib": [round(mib) for mib in ours],
        "peer_mib": [round(mib) for mib in peer],
    }
    early, last = EARLY - 1, TRIALS - 1
    Result(
        "memory",
        f"after {TRIALS} trials, as a multiple of after {EARLY}",
        "×",
        [ours[last] / ours[early]],
        [peer[last] / peer[early]],
        peer_name,
        promise=Promise(PROMISE),
        details=details,
    ).report()
    most = max(ours[EARLY:]) / ours[early]
    Result("memory", f"most after a later trial, as a multiple of after {EARLY}", "×", [most]).report()
    for trial in (early, last):
        Result("memory", f"after {trial + 1} trials", "MiB", [ours[trial]], [peer[trial]], peer_name).report()


if __name__ == "__main__":
    if sys.argv[1:] == ["peer"]:
        print(json.dumps(resident_mib_of_peer()))
    else:
        main()
