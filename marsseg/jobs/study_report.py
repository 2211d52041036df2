"""The report that a study's own run shows once the study is over, and the finalists' models."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marsseg.jobs.descriptions import merge, study_section
from marsseg.jobs.home import Home
from marsseg.jobs.settings import StudySettings
from marsseg.jobs.trial_report import MODEL_FILE
from marsseg.plain_json import write_json
from marsseg.report.leaderboard import render_csv, render_html
from marsseg.report.search_figures import (
    draw_budget,
    draw_importances,
    draw_parallel_coordinates,
    draw_pareto,
    draw_scores,
)
from marsseg.search.importance import parameter_importances
from marsseg.search.proposer import observe
from marsseg.search.state import SearchState, TrialState
from marsseg.tracking.recorder import NOTE_TAG, Point, Recorder


def log_study_report(
    settings: StudySettings,
    state: SearchState,
    document: Mapping[str, Any],
    histories: Mapping[int, Sequence[float]],
    recorder: Recorder,
) -> None:
    """Uploads space, leaderboard and figures, and ends the study's run.

    Args:
        settings: The study's.
        state: How it ended.
        document: Its leaderboard.
        histories: `val_mean_iou` of each epoch, by trial number.
        recorder: Where to upload them.
    """
    import tomli_w

    run_id = document["search_run_id"]
    rungs = settings.build_scheduler().levels
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "leaderboard.csv").write_text(render_csv(document), encoding="utf-8")
        (folder / "leaderboard.html").write_text(render_html(document), encoding="utf-8")
        (folder / "leaderboard.json").write_text(write_json(document), encoding="utf-8")
        if settings.space:
            (folder / "space.toml").write_text(tomli_w.dumps(dict(settings.space)), encoding="utf-8")
            _draw_choices(folder, settings, state, document)
        draw_scores(folder / "scores.png", histories, rungs)
        draw_budget(folder / "budget.png", [len(scores) for scores in histories.values()], rungs)
        if settings.sizes:
            _show_front(folder, settings, document, recorder)
        recorder.log_folder(run_id, folder)
    recorder.log_points(run_id, [Point(state.num_started, time.time_ns() // 1_000_000, _totals(state, document))])
    section = study_section(settings, recorder.view_link(settings.name), document, recorder.run_link)
    note = merge(recorder.note(run_id), section)
    recorder.set_tags(run_id, {NOTE_TAG: note, "marsexp.state": "completed"})
    recorder.set_status(run_id, "FINISHED", time.time_ns() // 1_000_000)


def _totals(state: SearchState, document: Mapping[str, Any]) -> dict[str, float]:
    totals = {name: document[name] for name in ("epochs_planned", "epochs_spent")}
    totals["trials"] = state.num_started
    winner = state.winner
    # Not `best_val_mean_iou`: a search must not appear among the trials that are sorted by it.
    return totals if winner is None else {**totals, "winner_val_mean_iou": winner.best_val_mean_iou or 0.0}


def _draw_choices(folder: Path, settings: StudySettings, state: SearchState, document: Mapping[str, Any]) -> None:
    space = settings.build_space()
    observed = [observation for observation in observe(state, settings.rungs) if not observation.failed]
    importances = parameter_importances(space, observed)
    if importances:
        draw_importances(folder / "importances.png", importances)
    scored = [trial for trial in document["trials"] if trial["best_val_mean_iou"] is not None]
    if scored:
        draw_parallel_coordinates(folder / "parallel_coordinates.png", scored, list(space.by_path))


def _show_front(folder: Path, settings: StudySettings, document: Mapping[str, Any], recorder: Recorder) -> None:
    """Draws the Pareto front, and tags which completed trials are on it; extending the search may change the front."""
    scored = [trial for trial in document["trials"] if trial["best_val_mean_iou"] is not None]
    if scored:
        draw_pareto(folder / "pareto.png", scored, settings.sizes)
    for trial in scored:
        if trial["state"] == TrialState.COMPLETED and recorder.is_kept(trial["run_id"]):
            recorder.set_tags(trial["run_id"], {"marsexp.on_front": str(trial["on_front"]).lower()})


def log_models(
    home: Home,
    settings: StudySettings,
    state: SearchState,
    image_shape: tuple[int, int],
    num_classes: int,
    recorder: Recorder,
) -> None:
    """Logs the model of every completed trial that has none yet, as saved by its worker."""
    for trial in state.in_state(TrialState.COMPLETED):
        file = home.checkpoints(settings.name, trial.number) / MODEL_FILE
        if file.is_file() and recorder.is_kept(trial.run_id) and not recorder.has_model(trial.run_id):
            recorder.log_model(trial.run_id, file, (*image_shape, 1), (*image_shape, num_classes))
