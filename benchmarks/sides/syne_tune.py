"""Syne Tune's own promotion ASHA; needs `syne-tune==0.13.0` or older, since newer versions only stop and never resume.

A question is a document `{"curves": [[score, …], …], "min_epochs", "max_epochs", "reduction_factor", "seed"}`, the
answer `[[configuration, epoch], …]`, in the order in which one worker would train.
"""

import json
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from datetime import datetime
from importlib.metadata import version
from typing import Any

from benchmarks.sides.lines import tell, wait

# On import it prints which of its extras are missing; only answers belong on stdout.
with redirect_stdout(sys.stderr):
    from syne_tune.backend.trial_status import Trial
    from syne_tune.config_space import randint
    from syne_tune.optimizer.baselines import ASHA
    from syne_tune.optimizer.scheduler import SchedulerDecision


def _search(question: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Does what Syne Tune's `Tuner` does for one worker, until nothing is left to start or to promote."""
    curves = question["curves"]
    scheduler = ASHA(
        {"number": randint(0, len(curves) - 1)},
        metric="score",
        mode="max",
        resource_attr="epoch",
        type="promotion",
        grace_period=question["min_epochs"],
        max_t=question["max_epochs"],
        reduction_factor=question["reduction_factor"],
        random_seed=question["seed"],
        points_to_evaluate=[{"number": number} for number in range(len(curves))],
        search_options={"debug_log": False},
    )
    trials: list[Trial] = []
    epochs = [0] * len(curves)
    progress = []
    while (suggestion := scheduler.suggest(len(trials))) is not None:
        if suggestion.spawn_new_trial_id:
            trial = Trial(len(trials), suggestion.config, datetime.now())
            trials.append(trial)
            scheduler.on_trial_add(trial)
        else:
            trial = trials[int(suggestion.checkpoint_trial_id)]
        number = trial.config["number"]
        decision = SchedulerDecision.CONTINUE
        while decision == SchedulerDecision.CONTINUE:
            epochs[number] += 1
            result = {"epoch": epochs[number], "score": curves[number][epochs[number] - 1]}
            progress.append((number, epochs[number]))
            decision = scheduler.on_trial_result(trial, result)
    return progress


if __name__ == "__main__":
    wait()
    tell({"name": f"Syne Tune {version('syne-tune')}"})
    while True:
        tell(_search(json.loads(wait())))
