"""Our own scheduler: the next epochs go where they are expected to raise the final best score most for their cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from marsseg.search.scheduler import Decision, Propose, Rungs, RunSegment, finish_leader, leader_of, start_new
from marsseg.search.state import SearchState, Trial, TrialState

# Proposals kept waiting to be started: more give more choice, but are made when less is known.
_WAITING = 6
_SHARE = 0.3
# Horizons: epochs ahead of a paused trial, or first segments for a new one; full training is always among them.
_AHEAD, _AHEAD_NEW = (1, 3, 6, 12), (1, 2, 4)
# Between 0, improvement alone, which always looks as far as it can, and 1, improvement per cost, which never does.
_COST_POWER = 0.5
# More trials make decisions slow; those far behind say nothing about which trial will win.
_MOST_TRIALS = 64
# So that the last bits of a sum decide nothing.
_DIGITS = 9


@dataclass(frozen=True)
class _Step:
    """A candidate step: train a trial to `until` on the way to `horizon`, which would cost `cost` in total."""

    trial: Trial
    until: int
    horizon: int
    cost: float


@dataclass(frozen=True)
class FreezeThaw:
    """Freeze-thaw (Swersky et al., 2014, arXiv 1406.3896) over a pool of paused trials.

    After each segment it predicts every curve, including those of configurations not yet started, and takes the step
    with the largest expected improvement over the best score, divided by the square root of the modelled cost. A
    segment at most doubles a trial's epochs before the next decision. In the end the leader is trained in full, unless
    a completed trial is as good.

    Args:
        rungs: A new trial is first paused at the first rung; the last rung is full training.
        spend: Modelled cost to spend. By default three tenths of the cost of fully training the whole budget, or more
            if needed for every configuration's first segment and one full training run.
    """

    rungs: Rungs
    spend: float | None = None

    @property
    def levels(self) -> tuple[int, ...]:
        """The last rung alone: any two trials are comparable, whatever their epochs."""
        return (self.rungs.max_epochs,)

    def decide(self, state: SearchState, budget: int) -> Decision:
        """Decides where the next epochs help most."""
        first = self.rungs.min_epochs
        waiting = state.in_state(TrialState.PROPOSED)
        leading = _leading(state)
        if not leading:
            return start_new(state, budget, first) or finish_leader(state, self.rungs.max_epochs)
        if len(waiting) < _WAITING and state.num_started + len(waiting) < budget:
            return Propose()
        paused = [trial for trial in leading if trial.state is TrialState.PAUSED]
        steps = self._affordable_steps([*waiting, *paused], state, budget)
        if steps:
            return self._best(steps, leading, state)
        owed = start_new(state, budget, first) if self.spend is None else None
        return owed or self._conclude(state, budget)

    def _affordable_steps(self, candidates: Sequence[Trial], state: SearchState, budget: int) -> list[_Step]:
        """The steps that leave enough to finish the finalist and to run the first segments still owed."""
        left, spent, owed = self._limit(state, budget) - self._cost_of_finalist(state), _spent(state), 0.0
        if self.spend is None:
            # The rest is released in proportion to the configurations started: the best may come last.
            owed = self._mean_cost(state, self.rungs.min_epochs)
            left, spent = (left - owed * budget) * state.num_started / budget, spent - owed * state.num_started
        return [
            step
            for trial in candidates
            for step in self._steps(trial, state)
            if step.cost <= left - spent + (0.0 if trial.epochs else owed)
        ]

    def _limit(self, state: SearchState, budget: int) -> float:
        if self.spend is not None:
            return self.spend
        return _SHARE * budget * self._mean_cost(state, self.rungs.max_epochs)

    def _mean_cost(self, state: SearchState, epochs: int) -> float:
        """The mean modelled cost of this many epochs in one go."""
        known = [trial.cost for trial in state.trials if trial.state is not TrialState.REJECTED]
        return epochs * fmean(cost.epoch for cost in known) + fmean(cost.start for cost in known)

    def _cost_of_finalist(self, state: SearchState) -> float:
        finalist = _finalist(state)
        if finalist is None:
            return 0.0
        return (self.rungs.max_epochs - finalist.epochs) * finalist.cost.epoch + finalist.cost.start

    def _conclude(self, state: SearchState, budget: int) -> Decision:
        """The end: waits for running trials, then trains the finalist if affordable, or anyway if none is complete."""
        finalist = _finalist(state)
        if finalist is not None and not state.in_state(TrialState.RUNNING):
            left = self._limit(state, budget) - _spent(state)
            if self._cost_of_finalist(state) <= left:
                return RunSegment(finalist.number, self.rungs.max_epochs)
        return finish_leader(state, self.rungs.max_epochs)

    def _steps(self, trial: Trial, state: SearchState) -> list[_Step]:
        first, full = self.rungs.min_epochs, self.rungs.max_epochs
        horizons = (
            [trial.epochs + ahead for ahead in _AHEAD] if trial.epochs else [first * ahead for ahead in _AHEAD_NEW]
        )
        start = trial.cost.start if state.last_trained != trial.number else 0.0
        return [
            _Step(
                trial,
                min(horizon, 2 * trial.epochs or first),
                horizon,
                (horizon - trial.epochs) * trial.cost.epoch + start,
            )
            for horizon in sorted({min(horizon, full) for horizon in (*horizons, full)})
        ]

    def _best(self, steps: Sequence[_Step], leading: Sequence[Trial], state: SearchState) -> Decision:
        # These take a second to import, which would delay every command that knows the schedulers.
        from scipy.stats import norm

        from marsseg.search.curve_model import CurveModel

        running = state.in_state(TrialState.RUNNING)
        waiting = state.in_state(TrialState.PROPOSED)
        shown = {trial.number: trial for trial in (*leading, *running, *waiting)}
        model = CurveModel(list(shown.values()), self.rungs.max_epochs)
        best = leading[0].score
        if running:
            ends = [(trial.number, trial.until) for trial in running]
            best = max(best, float(model.predict(ends)[0].max()))
            model.condition_on_predictions(ends)
        mean, deviation = model.predict([(step.trial.number, step.horizon) for step in steps])
        gain = (mean - best) / deviation
        improvement = deviation * (gain * norm.cdf(gain) + norm.pdf(gain))
        utility = improvement / [step.cost**_COST_POWER for step in steps]
        utility = (utility / (utility.max() or 1.0)).round(_DIGITS)
        step = min(
            zip(-utility, steps, strict=True), key=lambda pair: (pair[0], pair[1].trial.number, pair[1].horizon)
        )[1]
        return RunSegment(step.trial.number, step.until)


def _leading(state: SearchState) -> list[Trial]:
    """Trials with scores, the best first; at most `_MOST_TRIALS`."""
    started = [trial for trial in state.trials if trial.scores and trial.state is not TrialState.FAILED]
    return sorted(started, key=lambda trial: (-trial.score, trial.number))[:_MOST_TRIALS]


def _finalist(state: SearchState) -> Trial | None:
    """The best paused trial, unless a completed trial has at least its score."""
    leader = leader_of(state)
    completed = [trial.score for trial in state.in_state(TrialState.COMPLETED)]
    return leader if leader is not None and all(score < leader.score for score in completed) else None


def _spent(state: SearchState) -> float:
    """The modelled cost of all trials, up to the end of running segments."""
    epochs = {trial.number: trial.epochs for trial in state.trials}
    epochs |= {trial.number: trial.until for trial in state.in_state(TrialState.RUNNING)}
    return sum(epochs[trial.number] * trial.cost.epoch + trial.starts * trial.cost.start for trial in state.trials)
