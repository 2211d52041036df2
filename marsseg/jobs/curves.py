"""Learning curves of a search as a file: one configuration per line, for replaying other policies on them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marsseg.data.tiles import class_names
from marsseg.files import write_new_file
from marsseg.jobs.candidates import BASE
from marsseg.jobs.home import Home
from marsseg.jobs.stored import stored_settings
from marsseg.search.ledger import Ledger
from marsseg.search.state import Trial, replay

_IOU = "val_iou_"


def record_curves(home: Home, search: str, path: Path) -> int:
    """Writes the curves of all trials that have finished an epoch, in the order of their proposals.

    Each line is a document with `config` (the values that vary), `params`, `total_s`, `cost` (modelled seconds of an
    `epoch` and of a `start`), `state` and `history`: for each epoch `epoch`, `loss`, `train_s`, `epoch_s`, `val_iou` (a
    list over all classes except background, null where a class is neither present nor predicted) and every other metric
    by name.

    Args:
        home: Where the ledger is.
        search: The search's name.
        path: A new file.

    Returns:
        The number of curves.

    Raises:
        UsageError: If the file cannot be written.
    """
    ledger = Ledger(home.ledger)
    num_classes = stored_settings(ledger, search).config(BASE).data.num_classes
    classes = class_names(num_classes)[1:]
    lines = []
    for trial in replay(ledger.events(search)).trials:
        records = ledger.epochs(search, trial.number)
        if records:
            lines.append(json.dumps(_document(trial, records, classes)) + "\n")
    write_new_file(path, lambda file: file.write("".join(lines).encode()))
    return len(lines)


def _document(trial: Trial, records: list[dict[str, Any]], classes: Sequence[str]) -> dict[str, Any]:
    return {
        "config": dict(trial.values),
        "params": trial.params,
        "total_s": round(sum(record["epoch_s"] for record in records), 3),
        "cost": {"epoch": round(trial.cost.epoch, 4), "start": round(trial.cost.start, 4)},
        "state": trial.state.value,
        "history": [_epoch(record, classes) for record in records],
    }


def _epoch(record: dict[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    metrics = {name: round(value, 6) for name, value in record["metrics"].items()}
    return {
        "epoch": record["epoch"],
        **{name: value for name, value in metrics.items() if not name.startswith(_IOU)},
        "val_iou": [metrics.get(f"{_IOU}{name}") for name in classes],
        "train_s": round(record["train_s"], 3),
        "epoch_s": round(record["epoch_s"], 3),
    }
