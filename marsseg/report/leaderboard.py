"""A leaderboard as text, CSV or HTML, from the document that `leaderboard --json` prints."""

import csv
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

_COLUMNS = ("rank", "trial", "state", "epochs", "best_val_mean_iou", "best_epoch", "params", "duration_s", "run_id")
_SHORT_ID = 8


def value_columns(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """The dotted paths that vary, in the order of their first appearance."""
    return list(dict.fromkeys(path for trial in trials for path in trial["values"]))


def render_csv(document: Mapping[str, Any]) -> str:
    """All trials, one line each, with every value; what is inactive is empty."""
    paths = value_columns(document["trials"])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, "reason", *paths])
    for trial in document["trials"]:
        cells = [*(trial[column] for column in _COLUMNS), trial["reason"], *(trial["values"].get(p) for p in paths)]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue()


def render_html(document: Mapping[str, Any]) -> str:
    """All trials as one self-contained page."""
    paths = value_columns(document["trials"])
    header = "".join(f"<th>{html.escape(name)}</th>" for name in (*_COLUMNS[:-1], *paths, "run_id"))
    rows = []
    for trial in document["trials"]:
        cells = [_format(trial[c], c) for c in _COLUMNS[:-1]] + [_format(trial["values"].get(p), p) for p in paths]
        cells.append(str(trial["run_id"] or ""))
        rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    title = html.escape(f"Leaderboard of {document['search']}")
    style = (
        "body{font:14px system-ui,sans-serif;margin:2em}table{border-collapse:collapse}"
        "td,th{padding:.3em .7em;border-bottom:1px solid #ddd;text-align:left;white-space:nowrap}"
        "tr:nth-child(2){background:#fff3dc}"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style>'
        f"<h1>{title}</h1><p>{html.escape(summary_line(document))}</p>"
        f"<table><tr>{header}</tr>{''.join(rows)}</table></html>\n"
    )


def render_text(document: Mapping[str, Any], top: int | None = None, width: int | None = None) -> str:
    """The best trials as a table for the terminal.

    Args:
        document: The leaderboard.
        top: How many rows; all by default.
        width: Columns of the terminal; by default as it is, or 160 where there is none.

    Returns:
        Text that ends with a line break.
    """
    trials = document["trials"][:top]
    table = Table(
        title=f"{document['search']}: {summary_line(document)}", title_justify="left", box=None, pad_edge=False
    )
    for name, justify in (("#", "right"), ("trial", "right"), ("run", "left"), ("state", "left"), ("epochs", "right")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]  # rich's Literal
    table.add_column("best_val_mean_iou", justify="right", no_wrap=True)
    table.add_column("params", justify="right", no_wrap=True)
    table.add_column("values", overflow="fold")
    for trial in trials:
        values = ", ".join(f"{_short(path)}={_format(value, path)}" for path, value in trial["values"].items())
        table.add_row(
            str(trial["rank"]),
            str(trial["trial"]),
            (trial["run_id"] or "")[:_SHORT_ID],
            trial["state"],
            str(trial["epochs"]),
            _format(trial["best_val_mean_iou"], "best_val_mean_iou"),
            _format(trial["params"], "params"),
            f"{values}  ({trial['reason']})" if trial["reason"] else values,
        )
    text = io.StringIO()
    console = Console(file=text, width=width or max(Console().width, 160 if not Console().is_terminal else 0))
    console.print(table, highlight=False)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def summary_line(document: Mapping[str, Any]) -> str:
    """What the search has spent, in one line."""
    states: dict[str, int] = {}
    for trial in document["trials"]:
        states[trial["state"]] = states.get(trial["state"], 0) + 1
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    return f"{document['epochs_spent']} of {document['epochs_planned']} planned epochs; {counts or 'no trials yet'}"


def _short(path: str) -> str:
    return path.split(".", 1)[-1]


def _format(value: Any, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if name == "best_val_mean_iou":
        return f"{value:.4f}"
    if name == "duration_s":
        return f"{value:.0f}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if name == "params" else str(value)
