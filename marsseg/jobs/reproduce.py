"""`marsexp reproduce`: retrains a run from scratch and reports whether the result is bit-identical."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marsseg.config import ExperimentConfig, changed_fields
from marsseg.data.prepare import PreparedData, changed_parts
from marsseg.errors import NotFoundError, TrainingError
from marsseg.jobs.devices import check_config_gpus, worker_environments
from marsseg.jobs.home import Home
from marsseg.jobs.inputs import (
    Provenance,
    check_data_named_once,
    load_data,
    parse_assignments,
    resolve_source,
    with_assigned,
)
from marsseg.jobs.origin import config_tags, config_texts, dataset_of, log_origin, origin_tags, surroundings
from marsseg.jobs.progress import notify
from marsseg.jobs.rerun import Rerun, end_killed_reruns, rerun_folder
from marsseg.jobs.runs import RunRecord, find_run, load_epoch_metrics, load_run
from marsseg.jobs.tracker import RECORDED_AGAIN, epoch_point, result_point, result_tags
from marsseg.jobs.worker import FINAL_KINDS, TrainTask, serve
from marsseg.search.executor import LocalExecutor
from marsseg.tracking.provenance import code_version
from marsseg.tracking.recorder import Recorder, RunSpec
from marsseg.training.runtime import resolve_auto

TOLERANCE = 0.02
# 0.52 − 0.50 is a little more than 0.02.
_ROUNDING = 1e-9
_DATA_GROUPS = ("data.", "cleaning.", "split.")
_WEIGHTS = ("final", "best")
# Packages whose version can change a bit of the result.
_NUMERIC_PACKAGES = ("tensorflow", "keras", "numpy", "scipy", "ImageHash", "pillow")
# All packages with this prefix: cuDNN, cuBLAS and others that come with TensorFlow.
_GPU_PACKAGES = "nvidia-"
_POLL_S = 1.0


@dataclass(frozen=True)
class _Original:
    """The record that a rerun is compared with."""

    record: RunRecord
    epochs: dict[int, dict[str, float]]
    weights_sha256: dict[str, str]


def reproduce_run(
    home: Home, run: str, data_source: str | None, assignments: Sequence[str], provenance: Provenance
) -> dict[str, Any]:
    """Trains a run again, straight through to its last epoch, and compares.

    Args:
        home: Where everything is kept.
        run: A run ID or a unique prefix of one, `best` or `best:SEARCH`.
        data_source: Where the data is now, or None for where it was.
        assignments: `path=value` strings for a rerun that is changed on purpose.
        provenance: Author, tags and note.

    Returns:
        The document that `--json` prints, and a `summary` for people.

    Raises:
        MarsexpError: If the run cannot be read, the data is not there, or there are fewer GPUs than the run needs.
    """
    store, original_run_id = find_run(home, provenance.tracking_uri, run)
    record = load_run(store, original_run_id)
    original = _load_original(store, record)
    if record.config_changes:
        causes = [
            f"config: {path} was changed in the store after the run was created" for path in record.config_changes
        ]
        return _document(original, causes)
    values = parse_assignments(assignments)
    check_data_named_once(data_source, values)
    config = resolve_auto(with_assigned(record.config, values))
    config = config.with_values({"data.source": resolve_source(data_source or config.data.source)})
    changes = {path: pair for path, pair in changed_fields(record.config, config).items() if path != "data.source"}
    check_config_gpus(config, f"run {record.run_id[:12]}")
    causes = [f"config: {path} {before!r} -> {after!r}" for path, (before, after) in changes.items()]
    data = load_data(config)
    config.model.check_image_fits(data.images.shape[1], data.images.shape[2])
    changed_data = [f"data: {part}" for part in changed_parts(record.fingerprint, data.fingerprint.to_dict())]
    on_purpose = any(path.startswith(_DATA_GROUPS) for path in changes)
    if changed_data and not on_purpose:
        return _document(original, [*causes, *changed_data])
    causes += [*changed_data, *_changed_origin(record)]

    until = min(max(original.epochs), config.training.max_epochs)
    notify(f"training {record.name} ({record.run_id[:12]}) again from scratch to epoch {until}")
    recorder = Recorder(store)
    end_killed_reruns(home, recorder)
    rerun = Rerun(recorder, _open_rerun(recorder, record, config, data, provenance))
    facts, epochs = _retrain(home, rerun, config, data, until)
    document = _document(original, causes, rerun.run_id, epochs, facts)
    tags = {"marsexp.verdict": document["verdict"], **result_tags(facts)}
    rerun.attempt(lambda: recorder.set_tags(rerun.run_id, tags))
    return document


def _load_original(store: Any, record: RunRecord) -> _Original:
    hashes = {which: record.tags.get(f"marsexp.weights_sha256.{which}", "") for which in _WEIGHTS}
    if not all(hashes.values()):
        state = record.tags.get("marsexp.state", record.status.lower())
        raise NotFoundError(
            f"run {record.run_id[:12]} has finished no segment, so there is nothing to compare with: it is {state}"
        )
    names = [name for name in record.metrics if name == "loss" or name.startswith("val_")]
    epochs = load_epoch_metrics(store, record.run_id, names)
    last = int(record.metrics["epochs"])
    return _Original(record, {epoch: values for epoch, values in epochs.items() if epoch <= last}, hashes)


def _changed_origin(record: RunRecord) -> list[str]:
    here, there = surroundings(), record.environment
    changes = []
    if RECORDED_AGAIN in record.tags:
        changes.append("versions: unknown; the run was recorded again after its store was lost")
    if record.tags.get("marsexp.code_version") != code_version():
        changes.append("code: the sources of marsexp differ from those of the run")
    if there.get("python") != here["python"]:
        changes.append(f"versions: python {there.get('python')} -> {here['python']}")
    before, now = there.get("packages", {}), here["packages"]
    of_gpus = {name for name in (*before, *now) if name.startswith(_GPU_PACKAGES)}
    for name in (*_NUMERIC_PACKAGES, *sorted(of_gpus)):
        if before.get(name) != now.get(name):
            changes.append(f"versions: {name} {before.get(name)} -> {now.get(name)}")
    changes += [
        f"hardware: {name} {there.get(name)} -> {here[name]}"
        for name in ("platform", "processor", "onednn")
        if there.get(name) != here[name]
    ]
    # Runs of older versions did not record these, nor their instructions.
    before, now = there.get("variables", here["variables"]), here["variables"]
    changes += [
        f"hardware: variable {name} {before.get(name)} -> {now.get(name)}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    before, now = set(there.get("instructions", here["instructions"])), set(here["instructions"])
    if before != now:
        lost, new = (" ".join(sorted(some)) or "none" for some in (before - now, now - before))
        changes.append(f"hardware: CPU instructions, lost: {lost}, new: {new}")
    # The config says how many GPUs train; which of the machine's is not recorded, so their models are compared.
    before, now = (", ".join(sorted(set(names))) or "none" for names in (there.get("gpus", []), here["gpus"]))
    return changes if before == now else [*changes, f"hardware: gpus {before} -> {now}"]


def _open_rerun(
    recorder: Recorder, record: RunRecord, config: ExperimentConfig, data: PreparedData, provenance: Provenance
) -> str:
    start_ms = time.time_ns() // 1_000_000
    fingerprint = data.fingerprint.to_dict()
    spec = RunSpec(
        identity={"marsexp.reproduces": record.run_id, "marsexp.rerun": str(start_ms)},
        name=f"{record.name}-again",
        start_ms=start_ms,
        params=config.flat(),
        tags={
            "marsexp.kind": "reproduction",
            **config_tags(config),
            **origin_tags(fingerprint),
            **provenance.tags,
            **({"mlflow.user": provenance.author} if provenance.author else {}),
            "mlflow.note.content": provenance.note or f"Reproduces run `{record.run_id}`.",
        },
        dataset=dataset_of(config, fingerprint, {"images": len(data.images)}),
    )
    return recorder.open_run(spec)


def _retrain(
    home: Home, rerun: Rerun, config: ExperimentConfig, data: PreparedData, until: int
) -> tuple[dict[str, Any], dict[int, dict[str, float]]]:
    status = "FAILED"
    try:
        log_origin(rerun.recorder, rerun.run_id, config_texts(config), data.fingerprint.to_dict())
        with rerun_folder(home, rerun.run_id) as folder:
            log = home.log(f"reproduce-{rerun.run_id[:12]}")
            task = TrainTask(config.to_json(), folder, until, data.fingerprint.digest, log)
            outcome = _train(rerun, task, config)
        status = "FINISHED"
        return outcome
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        rerun.end(status)


def _train(
    rerun: Rerun, task: TrainTask, config: ExperimentConfig
) -> tuple[dict[str, Any], dict[int, dict[str, float]]]:
    """What a worker reports at the end, and the metrics of each epoch."""
    records: list[dict[str, Any]] = []
    # How many epochs there were when a worker died; as in a search, it may die once without a new one.
    died_after: int | None = None
    executor = LocalExecutor(serve, 1, FINAL_KINDS, worker_environments(1, config.training.gpus))
    try:
        executor.submit(rerun.run_id, task, runtime=config.training.threads)
        while True:
            for message in executor.poll(_POLL_S):
                if message.kind == "epoch":
                    # A worker that resumes from a checkpoint reports its epochs again.
                    if message.body["epoch"] <= len(records):
                        continue
                    records.append(message.body)
                    rerun.send(epoch_point(message.body))
                    score = message.body["metrics"]["val_mean_iou"]
                    notify(f"epoch {message.body['epoch']}/{task.until}, val_mean_iou {score:.4f}")
                elif message.kind == "done":
                    rerun.send(result_point(message.body, records[-1]["finished_ms"]))
                    rerun.attempt(lambda: rerun.recorder.log_folder(rerun.run_id, task.folder / "artifacts"))
                    return message.body, {record["epoch"]: record["metrics"] for record in records}
                elif message.kind == "died" and died_after != len(records):
                    died_after = len(records)
                    notify(f"{message.body}; resuming from epoch {died_after}")
                    executor.submit(rerun.run_id, task, runtime=config.training.threads)
                else:
                    raise TrainingError(f"the rerun failed: {message.body}")
    finally:
        executor.close()


def _document(
    original: _Original,
    causes: list[str],
    run_id: str | None = None,
    epochs: Mapping[int, Mapping[str, float]] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Compares the two; without a rerun's epochs they have diverged before any training."""
    rerun_hashes = facts["weights_sha256"] if facts else dict.fromkeys(_WEIGHTS)
    differences = _differences(original.epochs, epochs or {})
    diverged_at = next((epoch for epoch, difference in differences.items() if difference > 0), None)
    same_weights = rerun_hashes == original.weights_sha256
    if epochs and diverged_at is None and not same_weights:
        diverged_at = max(epochs)
    changed = any(cause.startswith(("config:", "data:")) for cause in causes)
    identical = bool(epochs) and diverged_at is None and same_weights and not changed
    if not identical:
        causes = causes or ["unknown: data, config, code, versions and hardware are the same"]
    best_difference = None
    if facts:
        best_difference = abs(facts["best_val_mean_iou"] - original.record.metrics["best_val_mean_iou"])
    if identical:
        verdict = "identical"
        summary = f"{len(epochs or {})} epochs and both weight hashes equal, run {run_id}"
    elif best_difference is None:
        verdict = "diverged"
        summary = f"before any training; {'; '.join(causes)}"
    else:
        tolerable = all(cause.startswith(("versions", "hardware")) for cause in causes)
        verdict = "within tolerance" if tolerable and best_difference <= TOLERANCE + _ROUNDING else "diverged"
        where = f"from epoch {diverged_at} on" if diverged_at else "though all metrics and weights are equal"
        summary = f"{where}, best_val_mean_iou differs by {best_difference:.4f}; {'; '.join(causes)}"
    return {
        "run_id": run_id,
        "original_run_id": original.record.run_id,
        "verdict": verdict,
        "weights_sha256": {"original": original.weights_sha256, "rerun": dict(rerun_hashes)},
        "max_metric_difference": max(differences.values()) if differences else None,
        "diverged_at_epoch": diverged_at,
        "causes": [] if identical else causes,
        "summary": summary,
    }


def _differences(
    original: Mapping[int, Mapping[str, float]], rerun: Mapping[int, Mapping[str, float]]
) -> dict[int, float]:
    """The largest difference of any metric at each epoch that the rerun has; 1e9 where one side lacks a metric."""
    differences = {}
    for epoch, metrics in rerun.items():
        before = original.get(epoch, {})
        names = before.keys() | metrics.keys()
        pairs = [(before.get(name, math.inf), metrics.get(name, -math.inf)) for name in names]
        differences[epoch] = min(max(abs(one - other) for one, other in pairs), 1e9)
    return differences
