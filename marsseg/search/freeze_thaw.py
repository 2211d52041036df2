"""Our own scheduler: the next epochs go where they are expected to raise the final best most for what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from marsseg.search.scheduler import Decision, Propose, Rungs, RunSegment, finish_leader, leader_of, start_new
from marsseg.search.state import SearchState, Trial, TrialState

# Proposals that wait to be started: more to choose from, but made when less was known.
_WAITING = 6
_SHARE = 0.3
# Epochs ahead of where a trial is, or for a new one first segments; full training is looked at in any case.
_AHEAD, _AHEAD_NEW = (1, 3, 6, 12), (1, 2, 4)
# Between value alone, which always looks as far as it can, and value for its price, which never does.
_PRICE_POWER = 0.5
# So that the last bits of a sum decide nothing.
_DIGITS = 9


@dataclass(frozen=True)
class _Step:
    """A way on: train a trial to `until`, with a view to `horizon`, which would cost `cost` altogether."""

    trial: Trial
    until: int
    horizon: int
    cost: float


@dataclass(frozen=True)
class FreezeThaw:
    """Freeze-thaw (Swersky et al., 2014, arXiv 1406.3896) over a pool of paused trials.

    After each segment it predicts every curve, those of configurations not yet started too, and takes the step of the
    highest expected improvement over the best score so far, divided by the root of its modelled cost; a trial goes at
    most twice as far as it is before it is looked at again. In the end the leader is trained in full.

    Args:
        rungs: The first rung is where a new trial is paused first, the last one a full training.
        spend: Modelled cost to spend. By default three tenths of what full training of the whole budget would take, of
            which every configuration gets its first segment.
    """

    rungs: Rungs
    spend: float | None = None

    def planned_epochs(self, budget: int) -> int:
        """Epochs for this many configurations of one price.

        Args:
            budget: Configurations.
        """
        first, full = self.rungs.min_epochs, self.rungs.max_epochs
        return max(round(_SHARE * budget * full), budget * first + full - first)

    def decide(self, state: SearchState, budget: int) -> Decision:
        """Looks where the next epochs help most."""
        first = self.rungs.min_epochs
        waiting = state.in_state(TrialState.PROPOSED)
        if not any(trial.scores for trial in state.trials):
            return start_new(state, budget, first) or finish_leader(state, self.rungs.max_epochs)
        if len(waiting) < _WAITING and state.num_started + len(waiting) < budget:
            return Propose()
        steps = self._affordable_steps(state, budget)
        if steps:
            return self._best(steps, state)
        owed = start_new(state, budget, first) if self.spend is None else None
        return owed or finish_leader(state, self.rungs.max_epochs)

    def _affordable_steps(self, state: SearchState, budget: int) -> list[_Step]:
        """What leaves enough for the leader's way to the end, and for the first segments still owed."""
        known = [trial for trial in state.trials if trial.state is not TrialState.REJECTED]
        epoch, start = fmean(trial.cost.epoch for trial in known), fmean(trial.cost.start for trial in known)
        left = self.spend if self.spend is not None else _SHARE * budget * (self.rungs.max_epochs * epoch + start)
        leader = leader_of(state)
        if leader is not None and not state.in_state(TrialState.COMPLETED):
            left -= (self.rungs.max_epochs - leader.epochs) * leader.cost.epoch + leader.cost.start
        spent = sum(max(t.epochs, t.until) * t.cost.epoch + t.starts * t.cost.start for t in known)
        owed = 0.0
        if self.spend is None:
            # Beside the first segments owed to all, what falls to those started: the best may come last.
            owed = self.rungs.min_epochs * epoch + start
            left, spent = (left - owed * budget) * state.num_started / budget, spent - owed * state.num_started
        return [
            step
            for trial in state.in_state(TrialState.PROPOSED, TrialState.PAUSED)
            for step in self._steps(trial, state)
            if step.cost <= left - spent + (0.0 if trial.epochs else owed)
        ]

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

    def _best(self, steps: Sequence[_Step], state: SearchState) -> Decision:
        # They take a second to import, which every command would wait for that knows the schedulers.
        from scipy.stats import norm

        from marsseg.search.curve_model import CurveModel

        started = [trial for trial in state.trials if trial.scores and trial.state is not TrialState.FAILED]
        running = state.in_state(TrialState.RUNNING)
        waiting = state.in_state(TrialState.PROPOSED)
        model = CurveModel(
            [*started, *(trial for trial in running if not trial.scores), *waiting], self.rungs.max_epochs
        )
        best = max(trial.score for trial in started)
        if running:
            ends = [(trial.number, trial.until) for trial in running]
            best = max(best, float(model.predict(ends)[0].max()))
            model.imagine(ends)
        mean, deviation = model.predict([(step.trial.number, step.horizon) for step in steps])
        gain = (mean - best) / deviation
        improvement = deviation * (gain * norm.cdf(gain) + norm.pdf(gain))
        utility = np.round(improvement / np.array([step.cost for step in steps]) ** _PRICE_POWER, _DIGITS)
        step = min(
            zip(-utility, steps, strict=True), key=lambda pair: (pair[0], pair[1].trial.number, pair[1].horizon)
        )[1]
        return RunSegment(step.trial.number, step.until)
