"""A leaderboard as text, CSV or HTML, from the document that `leaderboard --json` prints."""

import csv
import html
import io
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

_COLUMNS = ("rank", "trial", "state", "epochs", "best_val_mean_iou", "best_epoch", "params", "duration_s", "run_id")
_TEXT_COLUMNS = ("#", "trial", "run", "state", "epochs", "best_val_mean_iou", "params")
_PLAN_COLUMNS = ("trial", "params", "flops", "values")
_SHORT_ID = 8
_WIDTH = 160
_MIN_VALUES_WIDTH = 6


def value_columns(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """Dotted paths of the hyperparameters that vary, in the order of their first appearance."""
    return list(dict.fromkeys(path for trial in trials for path in trial["values"]))


def render_csv(document: Mapping[str, Any]) -> str:
    """All trials, one line each, with all hyperparameters; inactive ones are empty."""
    paths = value_columns(document["trials"])
    columns = [*_COLUMNS, *_further_columns(document), "reason"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *paths])
    for trial in document["trials"]:
        cells = [*(trial[column] for column in columns), *(trial["values"].get(p) for p in paths)]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue()


def render_html(document: Mapping[str, Any]) -> str:
    """All trials as one self-contained page."""
    paths = value_columns(document["trials"])
    columns = [*_COLUMNS[:-1], *_further_columns(document)]
    header = "".join(f"<th>{html.escape(name)}</th>" for name in (*columns, *paths, "run_id"))
    rows = []
    for trial in document["trials"]:
        cells = [_format(trial[c], c) for c in columns] + [_format(trial["values"].get(p), p) for p in paths]
        if trial["reason"]:
            cells[columns.index("state")] += f": {trial['reason']}"
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
        f"<table><tr>{header}</tr>{''.join(rows)}</table><pre>{html.escape(render_recipes(document))}</pre></html>\n"
    )


def render_text(document: Mapping[str, Any], top: int | None = None, width: int | None = None) -> str:
    """The best trials as a table for the terminal.

    Args:
        document: The leaderboard.
        top: Maximum number of rows; all by default.
        width: Width in characters; by default that of the terminal, or at least 160 without a terminal.

    Returns:
        Text that ends with a line break.
    """
    further = _further_columns(document)
    rows = [_text_row(trial, further) for trial in document["trials"][:top]]
    title = f"{document['search']}: {summary_line(document)}"
    return _table(title, [*_TEXT_COLUMNS, *further, "values"], rows, width)


def render_recipes(document: Mapping[str, Any], top: int | None = None) -> str:
    """Mean and spread of each recipe over its seeds, best first, for the terminal; empty with one seed each.

    Args:
        document: The leaderboard.
        top: Maximum number of recipes; all by default.
    """
    recipes = document.get("recipes", [])[:top]
    if not recipes:
        return ""
    done = [row for row in recipes if row["best_val_mean_iou"]]
    longest = max((len(row["recipe"]) for row in done), default=0)
    lines = [f"{row['recipe']:<{longest}}  {_seeds_text(row)}" for row in done]
    missing = [row["recipe"] for row in recipes if row not in done]
    if missing:
        lines.append(f"none completed: {', '.join(missing)}")
    return "\n".join(["best_val_mean_iou of each recipe, mean ± standard deviation:", *lines]) + "\n"


def _seeds_text(row: Mapping[str, Any]) -> str:
    scores, seeds = row["best_val_mean_iou"], row["seeds"]
    return f"{_spread_text(scores)}, {seeds} seeds" if seeds > 1 else f"{scores['mean']:.4f}, 1 seed"


def render_plan(document: Mapping[str, Any], width: int | None = None) -> str:
    """What a search would do, its expected cost and its first configurations.

    Args:
        document: The plan.
        width: Width in characters; by default that of the terminal, or at least 160 without a terminal.

    Returns:
        Text that ends with a line break.
    """
    budget = document["budget"]
    what = f"{budget} configurations" if isinstance(budget, int) else f"a budget of {budget}"
    lines = [f"plan: {what}, scheduler {document['scheduler']}"]
    if len(document["objectives"]) > 1:
        lines[0] += f", for {' and '.join(document['objectives'])}"
    if document["epochs_planned"]:
        lines[0] += f", about {document['epochs_planned']} epochs"
    if document["expected_s"] is not None:
        lines[0] += f", about {document['expected_s'] / 60:.1f} min"
    if document["full_training_epochs"]:
        lines.append(f"full training of all: {document['full_training_epochs']} epochs")
    if document["full_training_s"] is not None:
        lines[1] += f", about {document['full_training_s'] / 60:.1f} min"
    rows = [
        (str(trial["trial"]), _format(trial["params"], "params"), _format(trial["flops"], "flops"), _values(trial))
        for trial in document["trials"]
    ]
    return "\n".join(lines) + "\n" + _table("the first configurations:", _PLAN_COLUMNS, rows, width)


def _table(title: str, names: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> str:
    """A table under its title, with the last column wrapped."""
    columns = list(zip(names, *rows, strict=True))
    aligned = []
    for column in columns[:-1]:
        longest = max(map(len, column))
        pad = str.ljust if column[0] in ("run", "state") else str.rjust
        aligned.append([pad(cell, longest) for cell in column])
    # A table drawn by rich takes ten seconds for ten thousand trials.
    heads = ["  ".join(cells) + "  " for cells in zip(*aligned, strict=True)]
    indent = len(heads[0])
    space = max(_MIN_VALUES_WIDTH, (width or _terminal_width()) - indent)
    folded = [_fold(values, space) for values in columns[-1]]
    table_width = indent + max(len(line) for lines in folded for line in lines)
    lines = _fold(title, table_width)
    for head, (first, *others) in zip(heads, folded, strict=True):
        lines.append((head + first).rstrip())
        lines += [" " * indent + line for line in others]
    return "\n".join(lines) + "\n"


def _further_columns(document: Mapping[str, Any]) -> list[str]:
    """Columns that only a search with several objectives has."""
    sizes = document["objectives"][1:]
    return [*(size for size in sizes if size not in _COLUMNS), "on_front"] if sizes else []


def _text_row(trial: Mapping[str, Any], further: Sequence[str]) -> tuple[str, ...]:
    return (
        str(trial["rank"]),
        str(trial["trial"]),
        (trial["run_id"] or "")[:_SHORT_ID],
        trial["state"],
        str(trial["epochs"]),
        _format(trial["best_val_mean_iou"], "best_val_mean_iou"),
        _format(trial["params"], "params"),
        *("" if trial[column] is False else _format(trial[column], column) for column in further),
        _values(trial),
    )


def _values(trial: Mapping[str, Any]) -> str:
    values = ", ".join([f"{_short(path)}={_format(value, path)}" for path, value in trial["values"].items()])
    return f"{values}  ({trial['reason']})" if trial["reason"] else values


def _terminal_width() -> int:
    width = shutil.get_terminal_size((_WIDTH, 0)).columns
    return width if sys.stdout.isatty() else max(width, _WIDTH)


def _fold(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` characters, broken at spaces, or within a word that is longer."""
    lines = []
    while len(text) > width:
        cut = text.rfind(" ", 1, width + 1)
        cut = width if cut < 0 else cut
        lines.append(text[:cut].rstrip())
        text = text[cut:].lstrip()
    return [*lines, text]


def summary_line(document: Mapping[str, Any]) -> str:
    """Epochs spent and number of trials in each state, in one line."""
    states: dict[str, int] = {}
    for trial in document["trials"]:
        states[trial["state"]] = states.get(trial["state"], 0) + 1
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    on_front = sum(trial.get("on_front", False) for trial in document["trials"])
    if on_front:
        counts += f"; {on_front} on the Pareto front"
    # With a time budget no epochs are planned.
    planned = f" of {document['epochs_planned']} planned" if document["epochs_planned"] else ""
    return f"{document['epochs_spent']}{planned} epochs; {counts or 'no trials yet'}"


def confirmation_lines(confirmed: Sequence[Mapping[str, Any]]) -> list[str]:
    """The results of `--confirm`, which trains the best configurations with other seeds, one line each."""
    lines = []
    for result in confirmed:
        line = f"trial {result['trial']} with {len(result['run_ids'])} other seeds: "
        line += f"val_mean_iou {_spread_text(result['val_mean_iou'])}"
        if result["test_mean_iou"]:
            line += f", on held-out images {_spread_text(result['test_mean_iou'])}"
        lines.append(line)
    return lines


def _spread_text(scores: Mapping[str, float] | None) -> str:
    return f"{scores['mean']:.4f} ± {scores['sd']:.4f}" if scores else "unknown, since none was completed"


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
    if name == "flops":
        return f"{value / 1e6:,.0f} M"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if name == "params" else str(value)
