"""How long a study will take, before it has trained anything: modelled cost, scaled by a few steps measured here."""

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from marsseg.config import ExperimentConfig
from marsseg.errors import ConfigError
from marsseg.jobs.candidates import Candidates, build_candidates
from marsseg.jobs.data_size import DataSize
from marsseg.jobs.settings import StudySettings
from marsseg.jobs.worker import MeasureTask
from marsseg.models.cost import step_seconds
from marsseg.search.budget import Budget
from marsseg.search.engines import build_proposer
from marsseg.search.executor import LocalExecutor
from marsseg.search.plan import Plan, expected_plan
from marsseg.search.proposer import proposal_seed
from marsseg.training.runtime import this_machine

_SAMPLE = 64
_TYPICAL_TRIALS = 40
_SIMULATED_EPOCHS = 54
# Segments per network that is built: the others reuse it.
_SEGMENTS_A_START = 2
_POLL_S = 0.5


@dataclass(frozen=True)
class Forecast:
    """Expected durations, in seconds.

    Args:
        epoch_s: An epoch with its validation, on average over the epochs that will be trained.
        segment_s: The overhead of a segment on top of its epochs.
        full_training_s: Full training of a configuration, on average over the configurations that may be tried.
    """

    epoch_s: float
    segment_s: float
    full_training_s: float


class Forecasting:
    """A forecast in the making: workers time one step while the caller does other things.

    All workers do so at once, since they will share the machine.

    Args:
        executor: Its workers are free.
        settings: The study's.
        candidates: Turns values into configs.
        data: How much trials will train on.
        log: Where the worker writes.
    """

    def __init__(
        self, executor: LocalExecutor, settings: StudySettings, candidates: Candidates, data: DataSize, log: Path
    ) -> None:
        self._executor = executor
        self._settings = settings
        self._data = data
        self._configs = _possible_configs(settings, candidates, data.image_shape)
        # A configuration of median cost stands for all.
        self._yardstick = sorted(self._configs, key=self._modelled_step)[len(self._configs) // 2]
        task = MeasureTask(data.as_trained(self._yardstick).to_json(), data.image_shape, log)
        self._waited_for = {f"forecast {number}" for number in range(settings.trials_at_a_time)}
        for key in self._waited_for:
            executor.submit(key, task, runtime=self._yardstick.training.threads)

    def result(self, should_stop: Callable[[], bool]) -> Forecast | None:
        """Waits for the step; None where no worker could do it.

        Args:
            should_stop: Called while waiting.

        Raises:
            KeyboardInterrupt: If it should stop.
        """
        measured = []
        while self._waited_for:
            if should_stop():
                raise KeyboardInterrupt
            for message in self._executor.poll(_POLL_S):
                self._waited_for.discard(str(message.key))
                measured += [message.body] if message.kind == "done" else []
        return self._scaled(statistics.fmean(measured)) if measured else None

    def _scaled(self, measured_s: float) -> Forecast:
        factor = measured_s / self._modelled_step(self._yardstick)
        costs, plan = [self._data.cost(config) for config in self._configs], self._settings.plan
        epoch = statistics.fmean(cost.epoch for cost in costs)
        # A GPU makes steps fast, but not what surrounds them.
        around = 1.0 if this_machine().gpus else factor
        segment_s = statistics.fmean(cost.start + _SEGMENTS_A_START * cost.report for cost in costs) * around
        planned_epoch = plan.cost / plan.epochs if plan.epochs else epoch
        full_training_s = self._settings.max_epochs * epoch * factor + segment_s
        return Forecast(planned_epoch * factor, segment_s, full_training_s)

    def _modelled_step(self, config: ExperimentConfig) -> float:
        return step_seconds(self._data.as_trained(config), self._data.image_shape)


def expected_spending(settings: StudySettings, data: DataSize) -> Plan:
    """What a study is expected to spend, from its scheduler and the costs of its trials; nothing with a time budget.

    Raises:
        ConfigError: If no configuration fits the images.
    """
    configs = _possible_configs(settings, build_candidates(settings), data.image_shape)
    costs = [data.cost(config) for config in configs]
    if settings.engine == "recipes":
        epochs = [config.training.max_epochs for config in configs]
        cost = sum(each * cost.epoch for each, cost in zip(epochs, costs, strict=True))
        return Plan(sum(epochs), len(configs), cost).scaled(settings.num_seeds)
    budget = settings.budget
    if budget.seconds is not None:
        return Plan()
    # Several epochs as one: to simulate each of very many would take minutes, and the shares hardly depend on it.
    coarse = max(1.0, settings.max_epochs / _SIMULATED_EPOCHS)
    settings = replace(
        settings,
        min_epochs=max(1, round(settings.min_epochs / coarse)),
        max_epochs=round(settings.max_epochs / coarse),
    )
    costs = [replace(cost, epoch=cost.epoch * coarse) for cost in costs]
    if budget.trials is not None:
        plan = expected_plan(settings.build_scheduler(), budget.trials, costs, settings.sizes)
        return replace(plan, epochs=plan.epochs * coarse)
    # Spent as in a search with a budget of this many configurations.
    scheduler = replace(settings, budget=Budget(_TYPICAL_TRIALS)).build_scheduler()
    plan = expected_plan(scheduler, _TYPICAL_TRIALS, costs, settings.sizes)
    return replace(plan, epochs=plan.epochs * coarse).scaled((budget.epochs or 0) / (plan.epochs * coarse))


def _possible_configs(
    settings: StudySettings, candidates: Candidates, image_shape: tuple[int, int]
) -> list[ExperimentConfig]:
    """A training's recipes, or random draws from a search's space: those that fit the images, at least one."""
    if settings.engine == "recipes":
        values: Iterable[Mapping[str, Any]] = [{"recipe": name, "seed": 0} for name in settings.configs]
    else:
        proposer = build_proposer("optuna", "random", settings.build_space())
        values = (proposer.propose([], proposal_seed(settings.seed, number)) for number in range(_SAMPLE))
    configs, errors = [], []
    for each in values:
        try:
            config = candidates.config(each)
            config.model.check_image_fits(*image_shape)
            configs.append(config)
        except ConfigError as error:
            errors.append(error)
    if not configs:
        raise errors[0]
    return configs
