"""Measurements that outlive a run: one JSON line each, so that long benchmarks can be interrupted and resumed."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.results import machine
from marsseg.tracking.provenance import code_version


def remembered(file: Path, subject: Mapping[str, Any], measure: Callable[[], Mapping[str, float]]) -> dict[str, Any]:
    """The figures of a subject on this machine, from the file, or measured and appended to it.

    Args:
        file: JSON lines of subject and figures together.
        subject: The thing measured, as plain values.
        measure: Returns the figures by name.

    Returns:
        Subject and figures, with the `machine`, the day they were `measured` and the version of the `code`.
    """
    subject = {**subject, "machine": machine()}
    for row in recall(file, subject):
        return row
    row = {**subject, **measure(), "measured": datetime.now(UTC).date().isoformat(), "code": code_version()[:12]}
    with file.open("a", encoding="utf-8") as appended:
        appended.write(json.dumps(row) + "\n")
    return row


def recall(file: Path, subject: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a subject that the file holds, of any machine unless the subject names one."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [row for row in map(json.loads, lines) if subject.items() <= row.items()]
