"""Optuna as itself: its own loop and pruners; an objective reads its configuration's curve where it would train."""

from collections.abc import Callable, Iterable, Sequence

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, SuccessiveHalvingPruner

from benchmarks.replay.account import Account
from benchmarks.replay.policies import RUNGS, Policy, Progress
from marsseg.search.simulation import Curve

# By default it reports every trial on the terminal.
optuna.logging.set_verbosity(optuna.logging.WARNING)


def optuna_peers() -> dict[str, Policy]:
    """A study with each of three pruners, by name."""
    return {
        "Optuna Hyperband": with_pruner(
            lambda: HyperbandPruner(RUNGS.min_epochs, RUNGS.max_epochs, RUNGS.reduction_factor)
        ),
        "Optuna successive halving": with_pruner(
            lambda: SuccessiveHalvingPruner(RUNGS.min_epochs, RUNGS.reduction_factor)
        ),
        "Optuna median": with_pruner(lambda: MedianPruner(n_startup_trials=5, n_warmup_steps=RUNGS.min_epochs)),
    }


def with_pruner(make_pruner: Callable[[], BasePruner]) -> Policy:
    """A study as Optuna's documentation teaches it: a score after each epoch, and the question whether to go on.

    Trial n is configuration n. A pruned trial is over: Optuna does not resume trials.

    Args:
        make_pruner: Makes a pruner for each study.
    """

    def policy(curves: Sequence[Curve], limit: float, seed: int) -> Iterable[Progress]:
        account = Account(curves, limit)

        def objective(trial: optuna.Trial) -> float:
            scores = curves[trial.number].scores
            for epoch, score in enumerate(scores, start=1):
                if not account.train(trial.number, epoch):
                    trial.study.stop()
                    raise optuna.TrialPruned
                trial.report(score, epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned
            return scores[-1]

        # Its Hyperband tells brackets apart by the study's name and the trial's number; nothing else is left to chance.
        study = optuna.create_study(study_name=f"draw {seed}", direction="maximize", pruner=make_pruner())
        study.optimize(objective, n_trials=len(curves))
        return account.progress

    return policy
