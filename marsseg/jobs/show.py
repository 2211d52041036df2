"""`marsexp show`: one run's record as a document or as text."""

import io
import time
from collections.abc import Mapping
from typing import Any

from marsseg.jobs.descriptions import users_text
from marsseg.jobs.home import Home
from marsseg.jobs.runs import find_run, load_run
from marsseg.tracking.recorder import NOTE_TAG

_ORIGIN = ("python", "platform", "processor", "cores")


def describe_run(home: Home, run: str, tracking_uri: str | None) -> dict[str, Any]:
    """A run's config, scores, hashes and origin, and who ran it and why.

    Raises:
        NotFoundError: If there is no such run.
    """
    store, run_id = find_run(home, tracking_uri, run)
    record = load_run(store, run_id)
    return {
        "run_id": record.run_id,
        "name": record.name,
        "status": record.status,
        "started": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.start_ms / 1000)),
        "metrics": dict(sorted(record.metrics.items())),
        "config": record.config.flat(),
        "author": record.tags.get("mlflow.user", ""),
        "note": users_text(record.tags.get(NOTE_TAG, "")),
        "own_tags": {
            name: value for name, value in sorted(record.tags.items()) if not name.startswith(("marsexp.", "mlflow."))
        },
        "tags": {name: value for name, value in sorted(record.tags.items()) if name.startswith("marsexp.")},
        "data_fingerprint": record.fingerprint,
        "environment": record.environment,
        "artifacts": sorted(file.path for file in store.client.list_artifacts(record.run_id)),
    }


def render_run(document: Mapping[str, Any]) -> str:
    """A run as text for people."""
    text = io.StringIO()
    print(f"{document['name']}  {document['run_id']}  {document['status']}  {document['started']}", file=text)
    sections = {
        "scores": {name: f"{value:.6g}" for name, value in document["metrics"].items()},
        "config": document["config"],
        "record": {
            **document["own_tags"],
            **{name: document[name] for name in ("author", "note") if document[name]},
            **document["tags"],
        },
        "origin": {name: document["environment"].get(name, "") for name in _ORIGIN},
    }
    for title, values in sections.items():
        print(f"\n{title}", file=text)
        width = max(len(name) for name in values) if values else 0
        for name, value in values.items():
            print(f"  {name:<{width}}  {'none' if value is None else value}", file=text)
    print(f"\nfiles: {', '.join(document['artifacts'])}", file=text)
    return text.getvalue()
