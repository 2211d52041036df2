"""`marsexp search --dry-run`: what a search would do and cost, with nothing written down."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marsseg.data.prepare import PreparedData
from marsseg.jobs.admission import Admission
from marsseg.jobs.candidates import build_candidates
from marsseg.jobs.data_size import DataSize
from marsseg.jobs.devices import worker_environments
from marsseg.jobs.forecast import Forecast, Forecasting
from marsseg.jobs.settings import StudySettings
from marsseg.jobs.standing import Standing
from marsseg.jobs.worker import FINAL_KINDS, serve
from marsseg.search.executor import LocalExecutor
from marsseg.search.objectives import SIZES
from marsseg.search.state import SearchState, Trial, TrialState

_SAMPLES = 10


def plan_document(settings: StudySettings, data: PreparedData) -> dict[str, Any]:
    """The plan, its cost and the first configurations.

    The configurations are those that the search would begin with; where the sampler would have learned from scores by
    then, those that it would propose without them.

    Args:
        settings: The search's.
        data: The data that trials would train on.

    Returns:
        The document that `--json` prints; seconds are None where no step could be timed.
    """
    size = DataSize.of(data)
    candidates = build_candidates(settings)
    admission = Admission(candidates, settings.filters, size)
    forecast = _forecast(settings, size)
    standing = Standing(settings, SearchState(), {})
    standing.forecast = forecast
    full = settings.budget.trials * settings.max_epochs if settings.budget.trials else None
    state = SearchState()
    samples = []
    for number in range(min(_SAMPLES, settings.budget.trials or _SAMPLES)):
        values = candidates.propose(state)
        reason = admission.reason_to_reject(values)
        trial = Trial(number, values, TrialState.REJECTED if reason else TrialState.PROPOSED)
        state = SearchState((*state.trials, trial))
        samples.append({"trial": number, **_size(values, admission), "reason": reason or "", "values": values})
    return {
        "budget": settings.budget.trials or str(settings.budget),
        "scheduler": settings.scheduler,
        "objectives": list(settings.objectives),
        "epochs_planned": settings.epochs_planned,
        "expected_s": _rounded(standing.seconds_left),
        "full_training_epochs": full,
        "full_training_s": _rounded(full and standing.full_training_s),
        "trials": samples,
    }


def _forecast(settings: StudySettings, size: DataSize) -> Forecast | None:
    environments = worker_environments(settings.workers, settings.gpus)
    executor = LocalExecutor(serve, settings.workers, FINAL_KINDS, environments)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "worker.log"
        try:
            return Forecasting(executor, settings, build_candidates(settings), size, log).result(lambda: False)
        finally:
            executor.close()


def _size(values: Mapping[str, Any], admission: Admission) -> dict[str, Any]:
    operations = admission.operations(values)
    return {name: getattr(operations, name, None) for name in SIZES}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
