"""`marsexp doctor`: checks everything that a search depends on, and says what to do about each problem."""

import io
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from marsseg.config import ExperimentConfig
from marsseg.errors import MarsexpError
from marsseg.jobs.checks import (
    Check,
    attempt,
    check_data,
    check_gpus,
    check_home,
    check_machine,
    check_server,
    check_software,
)
from marsseg.jobs.first_steps import train_first_steps
from marsseg.jobs.home import open_home
from marsseg.jobs.inputs import DATA_VARIABLE
from marsseg.jobs.progress import notify
from marsseg.training.runtime import resolve_auto

_TRAINING_TIMEOUT_S = 120.0
_STATES = ("ok", "warning", "problem")


def examine(tracking_uri: str | None) -> dict[str, Any]:
    """Checks software, machine, storage, data and training; changes nothing.

    Args:
        tracking_uri: A server, or None.

    Returns:
        The document that `--json` prints.
    """
    config = resolve_auto(ExperimentConfig())
    checks = attempt("software", "packages", check_software)
    checks += attempt("machine", "processor", lambda: check_machine(int(config.training.threads)))
    notify("starting a worker process that trains a few steps")
    trained = attempt("training", "worker", lambda: _check_training(config))
    checks += [check for check in trained if check.topic == "machine"]
    checks += attempt("storage", "home", lambda: check_home(open_home()))
    if tracking_uri:
        checks += attempt("storage", "tracking URI", lambda: [check_server(tracking_uri)])
    checks += attempt("data", DATA_VARIABLE, lambda: [check_data(os.environ.get(DATA_VARIABLE) or None)])
    checks += [check for check in trained if check.topic == "training"]
    worst = max((check.state for check in checks), key=_STATES.index)
    return {"state": worst, "checks": [asdict(check) for check in checks]}


def _check_training(config: ExperimentConfig) -> list[Check]:
    try:
        seen = train_first_steps(config, _TRAINING_TIMEOUT_S)
    except MarsexpError as error:
        advice = "python -c 'import tensorflow' shows more; memory and versions above may say why"
        return [Check("training", "worker", "problem", str(error), advice)]
    found = (
        f"TensorFlow imported in {seen.import_s:.1f} s, first step after {seen.first_step_s:.1f} s, "
        f"then {seen.step_ms:.0f} ms a step of a tiny network"
    )
    return [check_gpus(seen.gpus), Check("training", "worker", "ok", found, facts=asdict(seen))]


def render_examination(document: Mapping[str, Any]) -> str:
    """An examination as text for people: a line for each check, and below it what to do."""
    checks = document["checks"]
    width = max(len(check["name"]) for check in checks)
    text = io.StringIO()
    topic = None
    for check in checks:
        if check["topic"] != topic:
            topic = check["topic"]
            print(topic, file=text)
        print(f"  {check['state']:<7}  {check['name']:<{width}}  {check['found']}", file=text)
        if check["advice"]:
            print(f"  {'':<7}  {'':<{width}}  -> {check['advice']}", file=text)
    counts = {state: sum(check["state"] == state for check in checks) for state in ("problem", "warning")}
    found = [f"{count} {state}{'s' if count > 1 else ''}" for state, count in counts.items() if count]
    print(f"\n{', '.join(found) or 'all is well'}", file=text)
    return text.getvalue()
