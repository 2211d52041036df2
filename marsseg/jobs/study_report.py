"""What a study's own run shows once the study is over, and the finalists' models."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marsseg.jobs.home import Home
from marsseg.jobs.settings import StudySettings
from marsseg.jobs.trial_report import WEIGHTS_FILE
from marsseg.report.figures import draw_budget, draw_scores
from marsseg.report.leaderboard import render_csv, render_html, summary_line
from marsseg.search.state import SearchState, TrialState
from marsseg.tracking.recorder import Recorder

_TOP = 5


def log_study_report(
    settings: StudySettings,
    document: Mapping[str, Any],
    histories: Mapping[int, Sequence[float]],
    recorder: Recorder,
) -> None:
    """Uploads space, leaderboard and pictures, and ends the study's run.

    Args:
        settings: What the study was.
        document: Its leaderboard.
        histories: `val_mean_iou` of each epoch, by trial number.
        recorder: Where to.
    """
    import tomli_w

    run_id = document["search_run_id"]
    rungs = settings.rungs.levels
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "leaderboard.csv").write_text(render_csv(document), encoding="utf-8")
        (folder / "leaderboard.html").write_text(render_html(document), encoding="utf-8")
        (folder / "leaderboard.json").write_text(json.dumps(document, indent=2), encoding="utf-8")
        if settings.space:
            (folder / "space.toml").write_text(tomli_w.dumps(dict(settings.space)), encoding="utf-8")
        draw_scores(folder / "scores.png", histories, rungs)
        draw_budget(folder / "budget.png", [len(scores) for scores in histories.values()], rungs, settings.budget)
        recorder.log_folder(run_id, folder)
    recorder.set_tags(run_id, {"mlflow.note.content": _description(settings, document), "marsexp.state": "completed"})
    recorder.set_status(run_id, "FINISHED", _last_ms())


def log_models(home: Home, settings: StudySettings, state: SearchState, recorder: Recorder) -> None:
    """Logs the model of every completed trial that has none yet."""
    for trial in state.in_state(TrialState.COMPLETED):
        weights = home.checkpoints(settings.name, trial.number) / "artifacts" / WEIGHTS_FILE
        if weights.is_file() and not recorder.has_tag(trial.run_id, "marsexp.model"):
            from marsseg.jobs.model_artifact import log_model

            log_model(recorder, trial.run_id, weights)


def _description(settings: StudySettings, document: Mapping[str, Any]) -> str:
    trials = document["trials"]
    lines = [
        f"### {document['search']}",
        "",
        f"{settings.budget} configurations from `{settings.space_name or 'recipes'}`, {settings.engine} "
        f"({settings.sampler}), scheduler `{settings.scheduler}`, seed {settings.seed}. {summary_line(document)}.",
        "",
        "| # | trial | state | epochs | best_val_mean_iou | parameters |",
        "|---|---|---|---|---|---|",
    ]
    for trial in trials[:_TOP]:
        score = trial["best_val_mean_iou"]
        shown = "" if score is None else f"{score:.4f}"
        cells = (trial["rank"], trial["trial"], trial["state"], trial["epochs"], shown, f"{trial['params']:,}")
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    if trials and trials[0]["state"] == "completed":
        lines += ["", f"Train the winner again: `marsexp reproduce {trials[0]['run_id']}`"]
    return "\n".join([*([settings.note, ""] if settings.note else []), *lines])


def _last_ms() -> int:
    import time

    return time.time_ns() // 1_000_000
