"""A real search with a time limit in seconds: the command line holds the task, as JSON, and a file for the answer.

Ours is the command; the others are the libraries' own loops around our trainer, as docs/libraries.md shows them. No
search gets more than its seconds: a trial still training when they are over counts as far as it has come, which for the
peers is nothing. `score` trains a winner in full instead, with another seed, and scores it on the test split.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_RUNGS = (3, 27, 3)


def search_ours(space: str, fixed: Mapping[str, Any], seconds: float, seed: int) -> dict[str, Any]:
    """`marsexp search` with its default scheduler and a limit in seconds."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "marsseg.cli.app", "search", "--space", space, "--seed", str(seed), "--json"]
        command += ["--budget", f"{seconds:g}s", "--max-epochs", str(_RUNGS[1]), "--data", str(fixed["data.source"])]
        # Like the others.
        command += ["--workers", "1"]
        for path, value in fixed.items():
            command += ["--set", f"{path}={value}"] if path != "data.source" else []
        done = subprocess.run(command, env={**os.environ, "MARSEXP_HOME": home}, stdout=subprocess.PIPE, check=True)
    document = json.loads(done.stdout)
    return {"values": document["trials"][0]["values"], "trials": len(document["trials"])}


def search_optuna(space: str, fixed: Mapping[str, Any], seconds: float, seed: int) -> dict[str, Any]:
    """TPE and the Hyperband pruner in Optuna's own loop."""
    import optuna

    from marsseg.libraries.optuna import suggest_config
    from marsseg.libraries.training import train

    end = time.monotonic() + seconds

    def objective(trial: optuna.Trial) -> float:
        def report(record: Any) -> None:
            trial.report(record.metrics["val_mean_iou"], record.epoch)
            if time.monotonic() > end or trial.should_prune():
                raise optuna.TrialPruned

        result = train(suggest_config(trial, space, fixed), on_epoch=report)
        return result.history[result.best_epoch - 1].metrics["val_mean_iou"]

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.HyperbandPruner(*_RUNGS),
    )
    study.optimize(objective, timeout=seconds)
    return {"values": study.best_params, "trials": len(study.trials)}


def search_keras_tuner(space: str, fixed: Mapping[str, Any], seconds: float, seed: int) -> dict[str, Any]:
    """Keras Tuner's own Hyperband."""
    from marsseg.libraries.keras_tuner import SpaceHyperModel

    # isort: split
    import keras
    import keras_tuner

    end = time.monotonic() + seconds

    class TimeIsOver(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if time.monotonic() > end:
                raise keras_tuner.errors.FatalRuntimeError("the time is over")

    with tempfile.TemporaryDirectory() as folder:
        # Promoted trials resume from checkpoints, like ours: by default Keras Tuner would pass on weights alone.
        hypermodel = SpaceHyperModel(space, fixed, checkpoints=Path(folder) / "checkpoints")
        tuner = keras_tuner.Hyperband(
            hypermodel,
            objective=keras_tuner.Objective("val_mean_iou", "max"),
            max_epochs=_RUNGS[1],
            factor=_RUNGS[2],
            # From neighbouring seeds it draws nearly the same configurations.
            seed=1 + 100_000 * seed,
            directory=folder,
        )
        with suppress(keras_tuner.errors.FatalRuntimeError):
            tuner.search(callbacks=[TimeIsOver()], verbose=0)
        best = tuner.oracle.get_best_trials(1)[0].hyperparameters
        config = hypermodel.config(best).flat()
        values = {path: config[path] for path in best.values if path in config}
        return {"values": values, "trials": len(tuner.oracle.trials)}


def score(space: str, fixed: Mapping[str, Any], values: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The held-out score of a configuration after full training."""
    from marsseg.libraries.spaces import open_space
    from marsseg.libraries.training import set_up, train

    # isort: split
    from marsseg.data.tiles import class_names
    from marsseg.metrics import segmentation_scores
    from marsseg.training.step import Evaluator

    config = open_space(space, fixed)[1].with_values({**values, "seed": 1000 + seed})
    result = train(config)
    images, masks = set_up(config)[1].test
    counts = Evaluator(result.model, len(images)).confusion_matrix(images, masks)
    scores = segmentation_scores(counts, class_names(config.data.num_classes))
    return {"test_mean_iou": scores["mean_iou"], "test_mean_iou_foreground": scores["mean_iou_foreground"]}


SEARCHES = {
    "marsexp": search_ours,
    "Optuna, TPE + Hyperband pruner": search_optuna,
    "Keras Tuner, Hyperband": search_keras_tuner,
}


def main() -> None:
    """Does what the document on the command line asks for."""
    task = json.loads(sys.argv[1])
    who = task.pop("who")
    found = score(**task) if who == "score" else SEARCHES[who](**task)
    # The libraries print to stdout.
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
