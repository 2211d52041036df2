"""The origin of a run as its store holds it: settings, data, code, environment and machine."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marsseg.config import ExperimentConfig
from marsseg.tracking.provenance import checkout, code_version, environment
from marsseg.tracking.recorder import Recorder
from marsseg.training.precision import explain_precision
from marsseg.training.runtime import this_machine


def surroundings() -> dict[str, Any]:
    """Python, packages, CPU and GPUs, for comparing two runs."""
    machine = this_machine()
    return {**environment(), "instructions": machine.vector_flags, "gpus": [gpu.name for gpu in machine.gpus]}


def log_origin(recorder: Recorder, run_id: str, settings: Mapping[str, str], fingerprint: Mapping[str, str]) -> None:
    """Uploads what a rerun needs to know: settings, data fingerprint, environment and uncommitted changes.

    Args:
        recorder: Where to upload it.
        run_id: The run.
        settings: Texts by file name.
        fingerprint: Digests of the data.
    """
    texts = {
        **settings,
        "environment.json": json.dumps(surroundings(), indent=2),
        "data_fingerprint.json": json.dumps(dict(fingerprint), indent=2),
    }
    if checkout().get("diff"):
        texts["code.diff"] = checkout()["diff"]
    with tempfile.TemporaryDirectory() as temporary:
        for name, text in texts.items():
            Path(temporary, name).write_text(text, encoding="utf-8")
        recorder.log_folder(run_id, Path(temporary))


def config_texts(config: ExperimentConfig) -> dict[str, str]:
    """A config as the files of its run."""
    return {"config.json": config.to_json(), "config.toml": config.to_toml()}


def config_tags(config: ExperimentConfig) -> dict[str, str]:
    """Tags with the config's hash and the reason for its precision."""
    reason = str(explain_precision(config.training.precision, this_machine()))
    return {"marsexp.config_hash": config.config_hash(), "marsexp.precision": reason}


def origin_tags(fingerprint: Mapping[str, str]) -> dict[str, str]:
    """Tags with the data and the code that a rerun has to match."""
    tags = {"marsexp.data_fingerprint": fingerprint["digest"], "marsexp.code_version": code_version()}
    if "commit" in checkout():
        tags["mlflow.source.git.commit"] = checkout()["commit"]
    return tags


def dataset_of(config: ExperimentConfig, fingerprint: Mapping[str, str], profile: Mapping[str, Any]) -> dict[str, str]:
    """The data as MLflow's dataset input."""
    return {
        "name": Path(config.data.source).name,
        "digest": fingerprint["digest"],
        "source": config.data.source,
        "profile": json.dumps(dict(profile)),
    }
