"""Optuna's samplers as proposers.

A study is rebuilt in memory from the ledger for each proposal, and the sampler gets a seed of its own: no Optuna state
has to survive between proposals.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection

from marsseg.search.optuna_samplers import WITH_GENERATIONS, Distributions, build_sampler
from marsseg.search.proposer import Observation
from marsseg.search.space import BoolParameter, ChoiceParameter, Domain, FloatParameter, IntParameter, Space, Value

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class OptunaProposer:
    """Suggests configurations with one of Optuna's samplers.

    CMA-ES and NSGA-II work in generations. Generations are filled in the order of the trials' numbers, as if each trial
    had been told before the next was asked for; a running trial counts once it has a score.

    Args:
        space: The search space.
        sampler: `tpe` (Watanabe, 2023, arXiv 2304.11127; grouped by condition), `gp`, `cmaes` or `nsga2`
            (`optuna_samplers` says how they treat conditions), or `random`.
        num_sizes: Number of size objectives besides the score.
    """

    space: Space
    sampler: str = "tpe"
    num_sizes: int = 0

    def propose(self, observations: Sequence[Observation], seed: int) -> dict[str, Value]:
        """The next configuration, a function of the arguments alone."""
        always_active = {
            parameter.path: build_distribution(parameter.domain)
            for parameter in self.space.parameters
            if not parameter.when
        }
        sampler = build_sampler(self.sampler, always_active, seed)
        rebuild = replay_study if self.sampler in WITH_GENERATIONS else build_study
        study = rebuild(self.space, observations, sampler, self.num_sizes)
        return suggest_values(study.ask(), self.space)


def build_study(
    space: Space, observations: Sequence[Observation], sampler: optuna.samplers.BaseSampler, num_sizes: int = 0
) -> optuna.Study:
    """A study in memory that holds these trials; higher scores are better, and lower sizes.

    Args:
        space: The search space.
        observations: Trials; those without a score count as running.
        sampler: The sampler that will propose.
        num_sizes: Number of size objectives besides the score.

    Returns:
        The study.
    """
    study = _empty_study(sampler, num_sizes)
    distributions = {parameter.path: build_distribution(parameter.domain) for parameter in space.parameters}
    study.add_trials([_ToldTrial.of(distributions, observation) for observation in observations])
    return study


def _empty_study(sampler: optuna.samplers.BaseSampler, num_sizes: int) -> optuna.Study:
    directions = [StudyDirection.MAXIMIZE, *[StudyDirection.MINIMIZE] * num_sizes]
    return optuna.create_study(directions=directions, sampler=sampler)


class _ToldTrial(optuna.trial.FrozenTrial):
    """A trial made for one study, which need not copy it: copying a thousand trials takes a second."""

    @classmethod
    def of(cls, known: Distributions, observation: Observation) -> "_ToldTrial":
        running = observation.score is None
        now = datetime.now()
        return cls(
            number=-1,
            trial_id=-1,
            state=optuna.trial.TrialState.RUNNING if running else optuna.trial.TrialState.COMPLETE,
            value=None,
            values=None if observation.score is None else [observation.score, *observation.sizes],
            datetime_start=now,
            datetime_complete=None if running else now,
            params=dict(observation.values),
            distributions={path: known[path] for path in observation.values},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )

    def __deepcopy__(self, _: dict[int, Any]) -> "_ToldTrial":
        return self


def replay_study(
    space: Space, observations: Sequence[Observation], sampler: optuna.samplers.BaseSampler, num_sizes: int = 0
) -> optuna.Study:
    """Like `build_study`, but the sampler is asked for each trial before it is told the trial's score.

    Args:
        space: The search space.
        observations: Trials in the order of their numbers.
        sampler: The sampler that will propose; it records in each trial the generation that the trial belongs to.
        num_sizes: Number of size objectives besides the score.

    Returns:
        The study.
    """
    study = _empty_study(sampler, num_sizes)
    for observation in observations:
        study.enqueue_trial(dict(observation.values))
        trial = study.ask()
        # With all values given beforehand, nothing else would make the sampler record its generation.
        _ = trial.relative_params
        suggest_values(trial, space)
        if observation.score is not None:
            study.tell(trial, [observation.score, *observation.sizes])
    return study


def build_distribution(domain: Domain) -> BaseDistribution:
    """A parameter's domain as an Optuna distribution."""
    match domain:
        case IntParameter(low, high, step, log):
            return IntDistribution(low, high, log=log, step=step)
        case FloatParameter(low, high, step, log):
            return FloatDistribution(low, high, log=log, step=step)
        case ChoiceParameter(options):
            return CategoricalDistribution(options)
        case BoolParameter():
            return CategoricalDistribution((False, True))


def suggest_values(trial: optuna.Trial, space: Space) -> dict[str, Value]:
    """Asks an Optuna trial for a value of each active parameter.

    Args:
        trial: A live trial.
        space: The search space.

    Returns:
        Values by dotted path; inactive parameters are absent.
    """
    values: dict[str, Value] = {}
    for parameter in space.parameters:
        if parameter.is_active(values):
            values[parameter.path] = _suggest(trial, parameter.path, parameter.domain)
    return values


def _suggest(trial: optuna.Trial, path: str, domain: Domain) -> Value:
    match domain:
        case IntParameter(low, high, step, log):
            return trial.suggest_int(path, low, high, step=step, log=log)
        case FloatParameter(low, high, float(step)):
            # Samplers round to steps in different ways; 0.1 and its adjacent float would be two configurations.
            value = trial.suggest_float(path, low, high, step=step)
            return min(low + round((value - low) / step) * step, high)
        case FloatParameter(low, high, _, log):
            return trial.suggest_float(path, low, high, log=log)
        case ChoiceParameter(options):
            # Optuna's type allows None, a space's options do not.
            return cast("Value", trial.suggest_categorical(path, options))
        case BoolParameter():
            return trial.suggest_categorical(path, (False, True))
