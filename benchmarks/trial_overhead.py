"""Seconds per trial that a search costs beyond its training epochs, with networks so small that nothing else counts.

A real `marsexp search --space smoke --budget 8` on synthetic tiles, one worker, in a fresh folder. *The start* is the
time before the first epoch begins: imports, data, fresh stores, a worker with TensorFlow, the first network. *A trial*
is the time of the whole command minus the start and the seconds of all epochs in the ledger, divided by the number of
trials: proposals, networks, checkpoints, plots, MLflow, and at the end the models and the search's own report. An
epoch's seconds include the tracing of its step; in a further row tracing counts as overhead, and an epoch costs the
median of the epochs that do not begin with tracing. Few of these trials resume after a pause; `default_search` measures
the cost of a trial of the default search, with its many segments.

The peer is Keras Tuner's `RandomSearch` as its documentation teaches, in one process: as many trials of the same
networks built from Keras' own layers, on the same data, 4 epochs each by `fit`. It keeps the best weights of each
trial, but neither tracks, pauses nor plots, and does not survive a crash. It is measured where tensorboard, which it
needs, is installed. It has imported this package for space and tiles, so TensorFlow uses oneDNN there as it does for
ours.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import Any

from benchmarks.processes import fresh_home, run_fresh, wall_seconds
from benchmarks.results import Promise, Result
from benchmarks.turns import take_turns
from marsseg.config import ExperimentConfig
from marsseg.data.prepare import prepare_data
from marsseg.jobs.home import Home
from marsseg.jobs.shipped import find_space
from marsseg.search.ledger import Ledger
from marsseg.search.space_file import load_space
from marsseg.training.runtime import import_tensorflow_quietly

TRIALS = 8
REPEATS = 3
PEER_EPOCHS = 4
SPACE, NAME = "smoke", "overhead"


@dataclass(frozen=True)
class Spent:
    """The seconds of a search by use.

    Args:
        wall_s: From the start of its process to the end.
        start_s: Until the first epoch began.
        epochs_s: Seconds of each epoch of each uninterrupted stretch of one trial, the first epoch with tracing.
    """

    wall_s: float
    start_s: float
    epochs_s: Sequence[Sequence[float]]

    def overhead_s(self, with_tracing: bool) -> float:
        """Seconds per trial beyond the start and the epochs."""
        epochs = [seconds for stretch in self.epochs_s for seconds in stretch]
        training_s = sum(epochs)
        if with_tracing:
            untraced = [seconds for stretch in self.epochs_s for seconds in stretch[1:]]
            if not untraced:
                raise RuntimeError("expected an epoch that does not begin with tracing, found none")
            training_s = len(epochs) * statistics.median(untraced)
        return (self.wall_s - self.start_s - training_s) / TRIALS


def search_ours(folder: Path) -> Spent:
    """Runs a search and reads from its ledger how long its epochs took."""
    options = ["--space", SPACE, "--budget", str(TRIALS), "--name", NAME, "--workers", "1", "--json"]
    began = time.time()
    wall_s = wall_seconds([sys.executable, "-m", "marsseg.cli.app", "search", *options], fresh_home(folder))
    ledger = Ledger(Home(folder).ledger)
    stretches: list[tuple[int, list[float]]] = []
    first = began + wall_s
    for event in ledger.events(NAME):
        if event.kind == "finished" and event.trial is not None:
            records = ledger.epochs(NAME, event.trial)[: event.payload["epochs"]]
            known = sum(len(epochs) for trial, epochs in stretches if trial == event.trial)
            if not stretches or stretches[-1][0] != event.trial:
                stretches.append((event.trial, []))
            stretches[-1][1].extend(record["epoch_s"] for record in records[known:])
            first = min(first, records[0]["finished_ms"] / 1000 - records[0]["epoch_s"])
    found = len({trial for trial, _ in stretches})
    if found != TRIALS:
        raise RuntimeError(f"expected {TRIALS} trials with epochs, found {found}")
    return Spent(wall_s, first - began, [epochs for _, epochs in stretches])


def search_peer(began: float) -> Spent:
    """Runs Keras Tuner in this process, which began at this Unix time."""
    import_tensorflow_quietly()
    import keras
    import keras_tuner

    from marsseg.training.network import build_network

    space = load_space(find_space(SPACE))
    base = ExperimentConfig().with_values({**space.fixed, "training.threads": 2})
    data = prepare_data(base)

    def build(hp: keras_tuner.HyperParameters) -> Any:
        values = {
            "model.num_blocks": hp.Int("num_blocks", 2, 3),
            "model.base_filters": hp.Choice("base_filters", [4, 8]),
            "model.se": hp.Choice("se", ["none", "encoder"]),
        }
        model = build_network(base.with_values(values), data.images.shape[1:3], portable=True)
        model.compile(
            optimizer=keras.optimizers.Adam(hp.Float("learning_rate", 1e-3, 1e-2, sampling="log")),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.MeanIoU(data.num_classes, sparse_y_pred=False, name="mean_iou")],
        )
        return model

    class Timer(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        """Records when each epoch begins and how long it takes; the tuner copies it for every trial."""

        segments: list[list[float]] = []  # noqa: RUF012  # shared by the copies on purpose
        first: list[float] = []  # noqa: RUF012  # likewise

        def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
            Timer.segments.append([])

        def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            Timer.first.append(time.time())

        def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            Timer.segments[-1].append(time.time() - Timer.first[-1])

    with tempfile.TemporaryDirectory() as folder:
        objective = keras_tuner.Objective("val_mean_iou", "max")
        tuner = keras_tuner.RandomSearch(build, objective, max_trials=TRIALS, seed=1, directory=folder)
        (images, masks), validation = data.train, data.validation
        fit = {"epochs": PEER_EPOCHS, "batch_size": base.training.batch_size, "verbose": 0}
        tuner.search(images, masks, validation_data=tuple(validation), callbacks=[Timer()], **fit)
    return Spent(time.time() - began, Timer.first[0] - began, Timer.segments)


def search_in_fresh_folder() -> Spent:
    with tempfile.TemporaryDirectory() as folder:
        return search_ours(Path(folder))


def main() -> None:
    with_peer = find_spec("tensorboard") is not None
    ours, peer = take_turns(
        search_in_fresh_folder, (lambda: Spent(**run_fresh(__file__, "peer"))) if with_peer else None, REPEATS
    )
    cases: dict[str, tuple[Callable[[Spent], float], Promise | None]] = {
        "a trial, beyond its epochs": (partial(Spent.overhead_s, with_tracing=False), Promise(3.0)),
        "a trial, the tracing of its steps included": (partial(Spent.overhead_s, with_tracing=True), Promise(3.0)),
        "the start, until the first epoch begins": (attrgetter("start_s"), None),
    }
    for case, (figure, promise) in cases.items():
        Result(
            benchmark="trial_overhead",
            case=case,
            unit="s",
            ours=list(map(figure, ours)),
            peer=list(map(figure, peer)),
            peer_name=f"Keras Tuner {metadata.version('keras-tuner')}",
            promise=promise,
            details={
                "trials": TRIALS,
                "ours_wall_s": round(statistics.median(spent.wall_s for spent in ours), 1),
                "ours_epochs": sum(map(len, ours[0].epochs_s)),
                "ours_stretches": len(ours[0].epochs_s),
                "peer_epochs": sum(map(len, peer[0].epochs_s)) if peer else None,
                "peer_wall_s": round(statistics.median(spent.wall_s for spent in peer), 1) if peer else None,
            },
        ).report()


if __name__ == "__main__":
    if sys.argv[1:] == ["peer"]:
        import psutil

        print(json.dumps(vars(search_peer(psutil.Process().create_time()))))
    else:
        main()
