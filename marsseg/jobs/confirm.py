"""`marsexp search --confirm K --seeds S`: are the best as good with new seeds, and on images that no search saw?"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

from marsseg.data.prepare import PreparedData
from marsseg.jobs.candidates import build_candidates
from marsseg.jobs.home import Home
from marsseg.jobs.inputs import Provenance
from marsseg.jobs.leaderboard import spread
from marsseg.jobs.progress import notify
from marsseg.jobs.settings import StudySettings
from marsseg.jobs.stored import load_settings, stored_settings
from marsseg.jobs.study import create_study, resume_study
from marsseg.jobs.train import training_settings
from marsseg.search.executor import exit_with_parent
from marsseg.search.ledger import Ledger, check_name
from marsseg.search.state import SearchState, Trial, TrialState, ranked, replay
from marsseg.training.runtime import import_tensorflow_quietly


def confirmation_name(search: str, number: int, num_seeds: int) -> str:
    """The name of the study that retrains the best trials.

    Raises:
        UsageError: If the search's name is too long for that.
    """
    name = f"{search}-confirm-{number}x{num_seeds}"
    check_name(name)
    return name


def chosen(state: SearchState, number: int) -> list[Trial]:
    """The trials to train again: those on the Pareto front, then the others as the leaderboard has them.

    Stopped ones come after the completed: a scheduler lets few trials complete, and the best may not be among them.
    """
    trained = [trial for trial in ranked(state) if trial.state in (TrialState.COMPLETED, TrialState.STOPPED)]
    front = {trial.number for trial in state.front}
    return sorted(trained, key=lambda trial: trial.number not in front)[:number]


def confirm(home: Home, search: str, number: int, num_seeds: int, data: PreparedData) -> list[dict[str, Any]]:
    """Retrains the best trials of a search, in full and with seeds that none of them had.

    This is a study of its own; if it was interrupted, it is resumed.

    Args:
        home: Where everything is kept.
        search: The search's name; it is over.
        number: How many of the best trials.
        num_seeds: Seeds that each is trained with.
        data: The data that they train on.

    Returns:
        For each, best first: `trial`, `run_ids`, and mean and standard deviation of `val_mean_iou` (the best epoch's)
        and of `test_mean_iou`, which is None where no images are held out.
    """
    settings = load_settings(home, search, "search")
    ledger = Ledger(home.ledger)
    candidates = build_candidates(settings)
    configs = {}
    for trial in chosen(replay(ledger.events(search)), number):
        config = candidates.config(trial.values)
        configs[f"trial-{trial.number}"] = config.with_values({"seed": config.seed + 1})
    if not configs:
        return []
    wanted = training_settings(
        confirmation_name(search, number, num_seeds), configs, data, num_seeds, _provenance(settings)
    )
    study, is_begun = find_begun(ledger, replace(wanted, confirms=search, workers=settings.workers))
    notify(f"confirming the best {len(configs)} with {num_seeds} new seeds each, as '{study.name}'")
    document = resume_study(home, study, data) if is_begun else create_study(home, study, data)
    # In this process TensorFlow may have started with another number of threads than the runs have.
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=exit_with_parent) as fresh_process:
        return [_result(home, settings, recipe, document["trials"], data, fresh_process) for recipe in configs]


def find_begun(ledger: Ledger, wanted: StudySettings) -> tuple[StudySettings, bool]:
    """The existing study of exactly these configs, or a new one.

    A search that was extended may have other best trials than when it was confirmed before.

    Args:
        ledger: Holds the existing studies.
        wanted: A new study; a number is appended to its name if another study has that name.

    Returns:
        The study to run, with the current locations of data and server, and whether it existed already.
    """
    name, number = wanted.name, 1
    while name in ledger.names():
        begun = stored_settings(ledger, name)
        if _hashes(begun) == _hashes(wanted):
            return replace(begun, configs=wanted.configs, tracking_uri=wanted.tracking_uri), True
        number += 1
        name = f"{wanted.name}-{number}"
    return replace(wanted, name=name), False


def _hashes(settings: StudySettings) -> dict[str, str]:
    return {name: settings.config(name).config_hash() for name in settings.configs}


def _provenance(settings: StudySettings) -> Provenance:
    return Provenance(settings.author, settings.tags, settings.note, settings.tracking_uri)


def _result(
    home: Home,
    settings: StudySettings,
    recipe: str,
    trials: Sequence[dict[str, Any]],
    data: PreparedData,
    fresh_process: ProcessPoolExecutor,
) -> dict[str, Any]:
    mine = [trial for trial in trials if trial["values"]["recipe"] == recipe and trial["state"] == "completed"]
    run_ids = [trial["run_id"] for trial in mine]
    held_out = None
    if len(data.split.test):
        scored = fresh_process.submit(_score_held_out, home, run_ids, data.source, settings.tracking_uri)
        held_out = spread(scored.result())
    return {
        "trial": int(recipe.removeprefix("trial-")),
        "run_ids": run_ids,
        "val_mean_iou": spread([trial["best_val_mean_iou"] for trial in mine]),
        "test_mean_iou": held_out,
    }


def _score_held_out(home: Home, run_ids: Sequence[str], source: str, tracking_uri: str | None) -> list[float]:
    # Not at module level: it imports MLflow, and a bad option should be reported without waiting for that.
    from marsseg.jobs.evaluate import evaluate_runs

    import_tensorflow_quietly()
    return [evaluate_runs(home, [run_id], source, "test", tracking_uri)["val_mean_iou"] for run_id in run_ids]
