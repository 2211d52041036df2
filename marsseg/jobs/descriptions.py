"""The descriptions of a study's runs in the tracking store, in Markdown.

A description is the user's text with one section of ours in it, between two marks; only the section is ever rewritten.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from marsseg.jobs.settings import StudySettings
from marsseg.report.leaderboard import summary_line
from marsseg.search.state import Trial, TrialState

_BEGIN, _END = "<!-- marsexp -->", "<!-- end of marsexp -->"
_TOP = 5
_SENTENCES = {
    TrialState.RUNNING: "is being trained to epoch {until}",
    TrialState.PAUSED: "is paused after {epochs}, and will be resumed if it is among the best",
    TrialState.COMPLETED: "is completed after {epochs}",
    TrialState.STOPPED: "was stopped after {epochs}: others were better",
    TrialState.FAILED: "failed after {epochs}: `{reason}`",
}


def merge(existing: str, section: str) -> str:
    """A description with its section brought up to date.

    Args:
        existing: The description as it is; users may have written before and after the section.
        section: The new section.

    Returns:
        The new description; the old one where users have removed the section.
    """
    marked = f"{_BEGIN}\n{section}\n{_END}"
    before, begin, rest = existing.partition(_BEGIN)
    if begin:
        _, end, after = rest.partition(_END)
        return f"{before}{marked}{after}" if end else existing
    return existing or marked


def first_description(note: str, section: str) -> str:
    """The description that a run is created with: the user's note first."""
    return f"{note}\n\n{merge('', section)}" if note else merge("", section)


def users_text(description: str) -> str:
    """A description without its section: what users have written."""
    before, _, rest = description.partition(_BEGIN)
    return f"{before}{rest.partition(_END)[2]}".strip()


def trial_section(settings: StudySettings, trial: Trial, view_link: str) -> str:
    """The section of a trial's run: what it is, its state, its hyperparameters, and how to train it again.

    Args:
        settings: The study's.
        trial: As it is in the ledger.
        view_link: Address of the study's trials in the UI; empty for a single training run.

    Returns:
        Markdown.
    """
    title, study = f"Trial {trial.number}", settings.name
    if settings.kind == "training":
        title = f"Recipe {trial.values['recipe']}, seed {trial.values['seed']},"
    standing = _SENTENCES[trial.state].format(
        until=trial.until, epochs=_epochs(trial.epochs), reason=_one_line(trial.reason).replace("`", "'")
    )
    # The UI collapses texts of more than a few lines, so what matters comes first.
    lines = [f"**{title} of {f'[{study}]({view_link})' if view_link else study}** {standing}."]
    if trial.best_val_mean_iou is not None:
        lines += [
            "",
            f"best_val_mean_iou **{trial.best_val_mean_iou:.4f}** at epoch {trial.best_epoch}, "
            f"{trial.params:,} parameters, {trial.duration_s:.0f} s of training.",
        ]
    if trial.facts and trial.run_id:
        lines[-1] += f" Train it again and compare: `marsexp reproduce {trial.run_id}`"
    if settings.kind == "search":
        lines += [
            "",
            *_table(("hyperparameter", "value"), [(path, str(value)) for path, value in trial.values.items()]),
        ]
    return "\n".join(lines)


def study_section(
    settings: StudySettings, view_link: str, document: Mapping[str, Any] | None = None, run_link: str = ""
) -> str:
    """The section of a study's own run: what was requested and, once it is over, the results.

    Args:
        settings: The study's.
        view_link: Address of its trials in the UI.
        document: Its leaderboard, once it is over.
        run_link: The UI's address of a run, up to the run's ID.

    Returns:
        Markdown.
    """
    lines = [
        f"**{settings.name}**: {settings.budget.in_words} from `{settings.space_name or 'recipes'}`, "
        f"{settings.engine} ({settings.sampler}), scheduler `{settings.scheduler}`, seed {settings.seed}."
    ]
    if document:
        lines[0] += f" {summary_line(document)}."
    if view_link:
        lines += ["", f"[All trials as a leaderboard, with charts]({view_link})"]
    trials = document["trials"] if document else []
    if trials:
        rows = [
            (
                str(row["rank"]),
                f"[{row['trial']}]({run_link}{row['run_id']})" if row["run_id"] else str(row["trial"]),
                row["state"],
                str(row["epochs"]),
                "" if row["best_val_mean_iou"] is None else f"{row['best_val_mean_iou']:.4f}",
                f"{row['params']:,}",
            )
            for row in trials[:_TOP]
        ]
        lines += ["", *_table(("#", "trial", "state", "epochs", "best_val_mean_iou", "parameters"), rows)]
        if trials[0]["state"] == "completed":
            lines += ["", f"Train the winner again: `marsexp reproduce {trials[0]['run_id']}`"]
    return "\n".join(lines)


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    cells = [header, ("---",) * len(header), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return [f"| {' | '.join(row)} |" for row in cells]


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"


def _one_line(text: str) -> str:
    return text.splitlines()[0] if text else "no reason given"
