"""Writes runs to the tracking store from plain values; sending the same values again changes nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from marsseg.tracking.models import log_keras_model
from marsseg.tracking.store import Store
from marsseg.tracking.view import search_view, search_view_tags, view_link

NOTE_TAG = "mlflow.note.content"
_MAX_RUNS = 1000
_MAX_METRICS = 1000
_MAX_PARAMS = 100
_MAX_PARAM_LENGTH = 6000


@dataclass(frozen=True)
class Point:
    """Metrics of one epoch.

    Args:
        step: The epoch, counted from 1.
        timestamp_ms: When the epoch ended; the same each time the point is sent, so that the store keeps it only once.
        metrics: Values by name.
    """

    step: int
    timestamp_ms: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class RunSpec:
    """The values that a run is created with.

    Args:
        identity: Tags that together identify the run; an existing run that has them all is continued.
        name: Shown in the UI.
        start_ms: Unix time in milliseconds.
        params: Config values by dotted path.
        tags: Further tags.
        parent_run_id: The run of the search or study.
        dataset: `name`, `digest`, `source` and `profile` of the training data; empty for none.
    """

    identity: Mapping[str, str]
    name: str
    start_ms: int
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    parent_run_id: str | None = None
    dataset: Mapping[str, str] = field(default_factory=dict)


class Recorder:
    """Writes to one store; an experiment in MLflow's trash is restored first.

    Args:
        store: The store to write to.
    """

    def __init__(self, store: Store) -> None:
        self._client = store.client
        self._experiment_id = store.experiment_id
        # In the trash it keeps its name, so no other experiment of that name can be created.
        if self._client.get_experiment(self._experiment_id).lifecycle_stage == LifecycleStage.DELETED:
            self._client.restore_experiment(self._experiment_id)

    def open_run(self, spec: RunSpec) -> str:
        """Creates a run, or finds the one created before a kill, even in MLflow's trash; that one is then restored.

        Returns:
            The run's ID.
        """
        run = self.find_run(spec.identity)
        if run is None:
            tags = {**spec.tags, **spec.identity}
            if spec.parent_run_id:
                tags["mlflow.parentRunId"] = spec.parent_run_id
            run = self._client.create_run(self._experiment_id, spec.start_ms, tags, spec.name)
        run_id = str(run.info.run_id)
        if run.info.lifecycle_stage == LifecycleStage.DELETED:
            self._client.restore_run(run_id)
        # A kill may have come right after the run was created. What it has stays: where the data is may have changed.
        if not run.data.params:
            params = [Param(path, str(value)[:_MAX_PARAM_LENGTH]) for path, value in spec.params.items()]
            for start in range(0, len(params), _MAX_PARAMS):
                self._client.log_batch(run_id, params=params[start : start + _MAX_PARAMS])
        if spec.dataset and not (run.inputs and run.inputs.dataset_inputs):
            self._log_dataset(run_id, spec.dataset)
        return run_id

    def find_run(self, identity: Mapping[str, str]) -> Run | None:
        """The run that has all these tags, if there is one, even in MLflow's trash."""
        condition = " and ".join(f"tags.`{key}` = '{value}'" for key, value in identity.items())
        runs = self._client.search_runs([self._experiment_id], condition, ViewType.ALL, max_results=1)
        return runs[0] if runs else None

    def find_runs(self, tag: str, value: str) -> list[Run]:
        """All runs with this tag value, including those in MLflow's trash."""
        runs: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id],
                f"tags.`{tag}` = '{value}'",
                run_view_type=ViewType.ALL,
                max_results=_MAX_RUNS,
                page_token=token,
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def is_kept(self, run_id: str) -> bool:
        """Whether a run exists and is not in MLflow's trash."""
        run = self._get_run(run_id)
        return run is not None and run.info.lifecycle_stage == LifecycleStage.ACTIVE

    def restore(self, run_id: str) -> bool:
        """Takes a run out of MLflow's trash, so that it can be written to; false if it is gone for good."""
        if self._get_run(run_id) is None:
            return False
        self._client.restore_run(run_id)
        return True

    def log_points(self, run_id: str, points: Iterable[Point]) -> None:
        """Sends metrics, in as few calls as possible."""
        metrics = [
            Metric(name, value, point.timestamp_ms, point.step)
            for point in points
            for name, value in point.metrics.items()
        ]
        for start in range(0, len(metrics), _MAX_METRICS):
            self._client.log_batch(run_id, metrics=metrics[start : start + _MAX_METRICS])

    def log_folder(self, run_id: str, folder: Path) -> None:
        """Uploads a folder's files; existing files of the same name are replaced."""
        self._client.log_artifacts(run_id, str(folder))

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Adds or replaces tags."""
        self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def log_model(self, run_id: str, file: Path, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> None:
        """Adds a model saved by Keras to a run that has none yet; the shapes are without the batch axis."""
        log_keras_model(self._client, self._experiment_id, run_id, file, input_shape, output_shape)

    def has_model(self, run_id: str) -> bool:
        """Whether a run has a logged model."""
        outputs = self._client.get_run(run_id).outputs
        return bool(outputs and outputs.model_outputs)

    def note(self, run_id: str) -> str:
        """A run's current description, including text that users have written in the UI."""
        return str(self._client.get_run(run_id).data.tags.get(NOTE_TAG, ""))

    @property
    def run_link(self) -> str:
        """The part before the run ID in a link between pages of the UI that leads to a run."""
        return f"#/experiments/{self._experiment_id}/runs/"

    def view_link(self, search: str) -> str:
        """A link between pages of the UI that leads to a search's view."""
        return view_link(self._experiment_id, search_view(search))

    def add_search_view(self, search: str, choices: Sequence[str]) -> None:
        """Adds a view to the UI that shows one search's trials, with the varied hyperparameters as columns."""
        for key, value in search_view_tags(search, choices).items():
            self._client.set_experiment_tag(self._experiment_id, key, value)

    def set_status(self, run_id: str, status: str, end_ms: int | None = None) -> None:
        """Sets the state that the UI shows.

        Args:
            run_id: The run.
            status: RUNNING, SCHEDULED, FINISHED, FAILED or KILLED.
            end_ms: When the run ended, for the last three.
        """
        self._client.set_terminated(run_id, status, end_ms) if end_ms else self._client.update_run(run_id, status)

    def _get_run(self, run_id: str) -> Run | None:
        try:
            return self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                return None
            raise

    def _log_dataset(self, run_id: str, dataset: Mapping[str, str]) -> None:
        entity = Dataset(
            name=dataset["name"],
            digest=dataset["digest"][:36],
            source_type="local",
            source=dataset["source"],
            profile=dataset["profile"],
        )
        self._client.log_inputs(run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])
