"""Keeps the tracking store in step with the ledger: one run per trial, across all its pauses, below the search's run.

The ledger is written first, so the store can always catch up: what could not be sent stays marked and is sent later,
and sending twice changes nothing.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mlflow.exceptions import MlflowException

from marsseg.config import ExperimentConfig
from marsseg.errors import first_line
from marsseg.jobs.descriptions import first_description, merge, study_section, trial_section
from marsseg.jobs.home import Home
from marsseg.jobs.origin import config_tags, config_texts, dataset_of, log_origin, origin_tags
from marsseg.jobs.settings import StudySettings
from marsseg.search.ledger import Ledger, LedgerWriter
from marsseg.search.state import SearchState, Trial, TrialState
from marsseg.tracking.recorder import NOTE_TAG, Point, Recorder, RunSpec
from marsseg.tracking.view import run_color

_STATUS = {
    TrialState.RUNNING: "RUNNING",
    TrialState.PAUSED: "SCHEDULED",
    TrialState.COMPLETED: "FINISHED",
    TrialState.STOPPED: "FINISHED",
    TrialState.FAILED: "FAILED",
}
_ENDED = ("FINISHED", "FAILED")
_LAST_STATES = (TrialState.COMPLETED, TrialState.STOPPED, TrialState.FAILED)
_RETRY_S = 30.0
_STUDY_PARAMS = (
    *("budget", "engine", "sampler", "scheduler", "seed", "space_name", "workers"),
    *("min_epochs", "max_epochs", "reduction_factor"),
)
# Tags a run whose store was lost: another version or machine may have trained it than the one that records it.
RECORDED_AGAIN = "marsexp.recorded_again"
_TIMING = ("learning_rate", "epoch_s", "images_per_second", "input_wait_s")
_FACTS = ("best_val_mean_iou", "best_epoch", "epochs", "params", "flops", "peak_memory_mb", "duration_s")


def epoch_point(record: Mapping[str, Any]) -> Point:
    """An epoch's record as it is logged."""
    timing = {name: record[name] for name in _TIMING if name in record}
    return Point(record["epoch"], record["finished_ms"], {**record["metrics"], **timing})


def result_point(facts: Mapping[str, Any], timestamp_ms: int) -> Point:
    """The results of a finished segment as they are logged."""
    return Point(facts["epochs"], timestamp_ms, {name: facts[name] for name in _FACTS})


def result_tags(facts: Mapping[str, Any]) -> dict[str, str]:
    """The hashes of the weights, as they are logged."""
    return {f"marsexp.weights_sha256.{which}": value for which, value in facts["weights_sha256"].items()}


class StudyTracker:
    """Observes a driver and mirrors its study in the tracking store.

    Args:
        settings: The study's.
        config_of: Returns a trial's config.
        ledger: Where epochs are read from.
        writer: Where run IDs are recorded.
        home: Where trials leave their files.
        open_recorder: Opens the store; retried later if it is unreachable.
        profile: Facts about the data, for MLflow's dataset view.
    """

    def __init__(
        self,
        settings: StudySettings,
        config_of: Callable[[Trial], ExperimentConfig],
        ledger: Ledger,
        writer: LedgerWriter,
        home: Home,
        open_recorder: Callable[[], Recorder],
        profile: Mapping[str, Any],
    ) -> None:
        self._settings = settings
        self._config_of = config_of
        self._ledger = ledger
        self._writer = writer
        self._home = home
        self._open_recorder = open_recorder
        self._profile = profile
        self._recorder: Recorder | None = None
        self._run_ids: dict[int, str] = {}
        self._parent: str | None = None
        self._sent_epochs: dict[int, int] = {}
        self._sent_state: dict[int, tuple[TrialState, int]] = {}
        self._behind: dict[int, Trial] = {}
        self._silent_until = 0.0

    @property
    def recorder(self) -> Recorder:
        """The open store."""
        self._recorder = self._recorder or self._open_recorder()
        return self._recorder

    def on_epoch(self, trial: Trial, record: dict[str, Any]) -> None:
        """Sends the epoch."""
        self._behind[trial.number] = trial
        self._try_to_catch_up()

    def on_change(self, state: SearchState, trial: Trial) -> None:
        """Creates the trial's run, or brings its state, results and figures up to date."""
        if trial.state is not TrialState.REJECTED:
            self._behind[trial.number] = trial
            self._try_to_catch_up()

    def catch_up(self, state: SearchState) -> None:
        """Sends whatever the store may lack: after a kill, and at the end.

        Raises:
            Exception: Whatever the store raises.
        """
        self._open_parent(state)
        if not self._sent_state:
            self._learn_what_was_sent(state)
        for trial in state.trials:
            if trial.state not in (TrialState.PROPOSED, TrialState.REJECTED):
                self._run_ids.setdefault(trial.number, trial.run_id)
                self._sync(trial)
        self._behind.clear()

    def leave(self, state: SearchState, status: str) -> None:
        """Leaves no run RUNNING when a driver stops before the end; an unreachable store is left alone.

        Args:
            state: The study's state so far.
            status: The MLflow status of the study's own run after such an end.
        """
        try:
            for trial in state.in_state(TrialState.RUNNING):
                run_id = self._run_ids.get(trial.number)
                if run_id and self.recorder.is_kept(run_id):
                    self.recorder.set_status(run_id, "SCHEDULED")
            if self._parent and self.recorder.is_kept(self._parent):
                self.recorder.set_status(self._parent, status, time.time_ns() // 1_000_000)
        except Exception as error:
            print(f"the tracking store does not answer ({type(error).__name__})", file=sys.stderr)

    def _open_parent(self, state: SearchState) -> None:
        """Creates or finds the study's own run; a single training has none."""
        if self._settings.kind == "training" and self._settings.budget.trials == 1:
            return
        if self._parent is not None and self.recorder.is_kept(self._parent):
            return
        spec = RunSpec(
            identity={"marsexp.study": self._settings.uid, "marsexp.trial": "none"},
            name=self._settings.name,
            start_ms=time.time_ns() // 1_000_000,
            params={
                **{name: getattr(self._settings, name) for name in _STUDY_PARAMS},
                "objectives": ", ".join(self._settings.objectives),
            },
            tags={
                "marsexp.kind": "search" if self._settings.kind == "search" else "study",
                "marsexp.search": self._settings.name,
                **origin_tags(self._settings.fingerprint),
                **self._user_tags(study_section(self._settings, self._view_link)),
            },
            dataset=dataset_of(self._settings.any_config, self._settings.fingerprint, self._profile),
        )
        self._parent = self.recorder.open_run(spec)
        # It may have been left as KILLED.
        self.recorder.set_status(self._parent, "RUNNING")
        self.recorder.add_search_view(self._settings.name, self._settings.choices)
        if state.run_id != self._parent:
            # The store's own address may hold a password.
            settings = {**self._settings.to_dict(), "tracking_uri": None}
            texts = {"settings.json": json.dumps(settings, indent=2)}
            log_origin(self.recorder, self._parent, texts, self._settings.fingerprint)
            self._writer.append("tracked", run_id=self._parent)

    def _learn_what_was_sent(self, state: SearchState) -> None:
        """Asks the store once what an earlier driver has sent: a thousand trials need not be sent again."""
        runs = {run.info.run_id: run for run in self.recorder.find_runs("marsexp.study", self._settings.uid)}
        for trial in state.in_state(TrialState.PAUSED, *_LAST_STATES):
            if trial.run_id in runs:
                run = runs[trial.run_id]
                stands = run.data.tags.get("marsexp.state"), run.data.tags.get("marsexp.epochs"), run.info.status
                # Status and these tags are sent last.
                if stands == (trial.state.value, str(trial.epochs), _STATUS[trial.state]):
                    self._sent_epochs[trial.number] = trial.epochs
                    self._sent_state[trial.number] = trial.state, trial.epochs

    def _try_to_catch_up(self) -> None:
        if time.monotonic() < self._silent_until:
            return
        try:
            for number, trial in list(self._behind.items()):
                self._sync(trial)
                del self._behind[number]
        except Exception as error:
            # Training is worth more than its record, and the ledger keeps what the store missed.
            print(f"the tracking store does not answer ({first_line(error)}); training continues", file=sys.stderr)
            self._silent_until = time.monotonic() + _RETRY_S
            # Reopening it restores an experiment that was deleted meanwhile.
            self._recorder = None

    def _sync(self, trial: Trial) -> None:
        """Sends what the store lacks of a trial; a deleted run is restored only if something has to be sent."""
        run_id = self._ensure_run(trial)
        try:
            self._send(trial, run_id)
        except MlflowException:
            if self.recorder.is_kept(run_id):
                raise
            if not self.recorder.restore(run_id):
                self._sent_epochs.pop(trial.number, None)
                run_id = self._open_run(trial)
                self.recorder.set_tags(run_id, {RECORDED_AGAIN: "true"})
            self._send(trial, run_id)

    def _send(self, trial: Trial, run_id: str) -> None:
        sent = self._sent_epochs.get(trial.number, 0)
        records = self._ledger.epochs(self._settings.name, trial.number)
        self.recorder.log_points(run_id, [epoch_point(record) for record in records[sent:]])
        self._sent_epochs[trial.number] = len(records)
        if self._sent_state.get(trial.number) != (trial.state, trial.epochs):
            self._send_state(trial, run_id, records)
            self._sent_state[trial.number] = trial.state, trial.epochs

    def _send_state(self, trial: Trial, run_id: str, records: list[dict[str, Any]]) -> None:
        tags = {"marsexp.state": trial.state.value, "marsexp.epochs": str(trial.epochs)}
        if trial.reason:
            tags["marsexp.reason"] = trial.reason
        if trial.facts:
            finished_ms = records[trial.facts["epochs"] - 1]["finished_ms"]
            self.recorder.log_points(run_id, [result_point(trial.facts, finished_ms)])
            tags |= result_tags(trial.facts)
        artifacts = self._home.checkpoints(self._settings.name, trial.number) / "artifacts"
        # A running trial's artifacts are sent at its next pause.
        if artifacts.is_dir() and trial.state is not TrialState.RUNNING:
            self.recorder.log_folder(run_id, artifacts)
        # The ledger's trial gets its run ID only after the run was created.
        section = trial_section(self._settings, replace(trial, run_id=run_id), self._view_link)
        tags[NOTE_TAG] = merge(self.recorder.note(run_id), section)
        self.recorder.set_tags(run_id, tags)
        status = _STATUS[trial.state]
        ended_ms = records[-1]["finished_ms"] if records else time.time_ns() // 1_000_000
        self.recorder.set_status(run_id, status, ended_ms if status in _ENDED else None)

    def _ensure_run(self, trial: Trial) -> str:
        known = self._run_ids.get(trial.number) or trial.run_id
        if known:
            self._run_ids[trial.number] = known
            return known
        return self._open_run(trial)

    def _open_run(self, trial: Trial) -> str:
        config = self._config_of(trial)
        spec = RunSpec(
            identity={"marsexp.study": self._settings.uid, "marsexp.trial": str(trial.number)},
            name=self._run_name(trial),
            start_ms=time.time_ns() // 1_000_000,
            params=config.flat(),
            tags={
                "marsexp.kind": "trial" if self._settings.kind == "search" else "training",
                "marsexp.search": self._settings.name,
                **config_tags(config),
                **origin_tags(self._settings.fingerprint),
                **self._user_tags(trial_section(self._settings, trial, self._view_link)),
                "mlflow.runColor": run_color(trial.number),
            },
            parent_run_id=self._parent,
            dataset=dataset_of(config, self._settings.fingerprint, self._profile),
        )
        run_id = self.recorder.open_run(spec)
        log_origin(self.recorder, run_id, config_texts(config), self._settings.fingerprint)
        self._run_ids[trial.number] = run_id
        self._writer.append("tracked", trial.number, run_id=run_id)
        return run_id

    def _run_name(self, trial: Trial) -> str:
        if self._settings.kind == "search":
            return f"{self._settings.name}-trial-{trial.number}"
        return f"{trial.values['recipe']}-seed-{trial.values['seed']}"

    @property
    def _view_link(self) -> str:
        return self.recorder.view_link(self._settings.name) if self._settings.space else ""

    def _user_tags(self, section: str) -> dict[str, str]:
        tags = {
            **self._settings.tags,
            "mlflow.source.name": f"marsexp {'train' if self._settings.kind == 'training' else 'search'}",
            "mlflow.source.type": "LOCAL",
            NOTE_TAG: first_description(self._settings.note, section),
        }
        return {**tags, "mlflow.user": self._settings.author} if self._settings.author else tags
