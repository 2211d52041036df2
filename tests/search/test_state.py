"""The state that a record replays to, whole or piece by piece, and which trial leads."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marsseg.errors import LedgerError
from marsseg.search.ledger import Event
from marsseg.search.state import Cost, SearchState, Trial, TrialState, ranked, replay

LEVELS = (1, 3, 9)
COST = {"epoch": 2.0, "start": 0.5}


def event(kind: str, trial: int | None = None, **payload: Any) -> Event:
    return Event(kind, trial, payload, 0)


def finished(number: int, epochs: int, score: float, completed: bool = False) -> Event:
    return event(
        "finished",
        number,
        completed=completed,
        epochs=epochs,
        scores=[score - 0.01] * epochs,
        best_val_mean_iou=score,
        best_epoch=epochs,
        params=1234,
        duration_s=1.5,
        active_s=float(epochs),
    )


@st.composite
def records(draw: st.DrawFn) -> list[Event]:
    """Records as a driver may write them, with trials in any interleaving, closed and opened again."""
    events: list[Event] = []
    states: list[tuple[str, int]] = []
    for _ in range(draw(st.integers(0, 40))):
        movable = [number for number, (state, _) in enumerate(states) if state in ("proposed", "running", "paused")]
        action = draw(st.sampled_from(["propose", "track", "stop", "close", *["move"] * 5]))
        if action == "propose" or not movable:
            events.append(event("proposed", len(states), values={"n": len(states)}, cost=COST))
            states.append(("proposed", 0))
        elif action == "track":
            trial = draw(st.none() | st.sampled_from(range(len(states))))
            events.append(event("tracked", trial, run_id=draw(st.text(max_size=3))))
        elif action == "stop":
            events.append(event("interrupted", active_s=1.0))
        elif action == "close" and not any(state == "running" for state, _ in states):
            events += [event("closed"), event("opened")]
            states = [("stopped", epochs) if state == "paused" else (state, epochs) for state, epochs in states]
        else:
            number = draw(st.sampled_from(movable))
            state, epochs = states[number]
            outcome = draw(st.sampled_from(["finished", "failed"]))
            if state == "proposed" and draw(st.booleans()):
                events.append(event("rejected", number, reason="toy"))
                states[number] = ("rejected", 0)
            elif state != "running":
                events.append(event("started", number, until=min(level for level in LEVELS if level > epochs)))
                states[number] = ("running", epochs)
            elif outcome == "failed":
                events.append(event("failed", number, reason="toy", epochs=epochs, active_s=1.0))
                states[number] = ("failed", epochs)
            else:
                epochs = min(level for level in LEVELS if level > epochs)
                events.append(finished(number, epochs, draw(st.floats(0, 1)), completed=epochs == LEVELS[-1]))
                states[number] = ("completed" if epochs == LEVELS[-1] else "paused", epochs)
    return events


@settings(deadline=None, max_examples=150)
@given(events=records())
def test_a_record_adds_up_to_the_same_in_one_go_and_at_every_cut(events: list[Event]) -> None:
    whole = replay(events)
    for cut in range(len(events) + 1):
        assert replay(events[cut:], replay(events[:cut])) == whole
    stored = [entry._replace(payload=json.loads(json.dumps(entry.payload))) for entry in events]
    assert replay(stored) == whole


@settings(deadline=None, max_examples=150)
@given(events=records())
def test_counts_follow_from_the_record(events: list[Event]) -> None:
    state = replay(events)
    assert [trial.number for trial in state.trials] == list(range(len(state.trials)))
    assert state.num_started == len({entry.trial for entry in events if entry.kind == "started"})
    assert state.epochs_spent == sum(len(trial.scores) for trial in state.trials)
    assert len(state.in_state(*TrialState)) == len(state.trials)


@settings(deadline=None, max_examples=150)
@given(events=records())
def test_the_leaderboard_holds_every_trial_once_and_the_winner_on_top(events: list[Event]) -> None:
    state = replay(events)
    board = ranked(state)
    assert sorted(trial.number for trial in board) == list(range(len(state.trials)))
    assert state.winner == (board[0] if board and board[0].state is TrialState.COMPLETED else None)


def test_the_life_of_a_trial() -> None:
    story = [
        (event("proposed", 0, values={"model.se": "none"}, cost=COST), TrialState.PROPOSED, 0),
        (event("started", 0, until=3), TrialState.RUNNING, 0),
        (event("tracked", 0, run_id="abc"), TrialState.RUNNING, 0),
        (finished(0, 3, 0.4), TrialState.PAUSED, 3),
        (event("started", 0, until=9), TrialState.RUNNING, 3),
        (finished(0, 7, 0.6, completed=True), TrialState.COMPLETED, 7),
        (event("closed"), TrialState.COMPLETED, 7),
    ]
    state = SearchState()
    for entry, expected, epochs in story:
        state = replay([entry], state)
        assert (state.trials[0].state, state.trials[0].epochs) == (expected, epochs)
    assert state.closed
    facts = dict(story[5][0].payload)
    assert state.trials[0] == Trial(
        0,
        {"model.se": "none"},
        TrialState.COMPLETED,
        until=9,
        starts=1,
        # Three epochs at 2 and a start at 0.5, then six more with the network still in memory.
        ends=18.5,
        epochs=7,
        scores=(0.6 - 0.01,) * 7,
        cost=Cost(2.0, 0.5),
        best_val_mean_iou=0.6,
        best_epoch=7,
        params=1234,
        duration_s=1.5,
        facts=facts,
        run_id="abc",
    )


def test_closing_stops_what_is_paused_and_nothing_else() -> None:
    events = [event("proposed", number, values={"n": number}, cost=COST) for number in range(4)]
    events += [event("started", number, until=3) for number in range(3)]
    events += [
        finished(0, 3, 0.4),
        finished(1, 3, 0.5, completed=True),
        event("failed", 2, reason="NaN", epochs=1, active_s=1.0),
    ]
    state = replay([*events, event("closed")])
    assert [trial.state.value for trial in state.trials] == ["stopped", "completed", "failed", "proposed"]
    assert state.trials[2].reason == "NaN"
    assert not replay([event("opened")], state).closed


def test_rejections_in_a_row_are_counted_from_the_end() -> None:
    def proposals(*rejected: bool) -> list[Event]:
        return [
            entry
            for number, is_rejected in enumerate(rejected)
            for entry in (
                event("proposed", number, values={}, cost=COST),
                event("rejected", number, reason="") if is_rejected else event("started", number, until=3),
            )
        ]

    assert replay([]).rejected_in_a_row == 0
    assert replay(proposals(True, True)).rejected_in_a_row == 2
    assert replay(proposals(True, True, False)).rejected_in_a_row == 0
    assert replay(proposals(True, False, True, True, True)).rejected_in_a_row == 3
    waits = event("proposed", 5, values={}, cost=COST)
    assert replay([*proposals(True, False, True, True, True), waits]).rejected_in_a_row == 3


def test_ranked_puts_completed_first_then_scores_then_none_and_the_earlier_of_equals() -> None:
    def trial(number: int, state: TrialState, score: float | None) -> Trial:
        return Trial(number, {}, state, best_val_mean_iou=score)

    state = SearchState(
        (
            trial(0, TrialState.STOPPED, 0.9),
            trial(1, TrialState.COMPLETED, 0.4),
            trial(2, TrialState.FAILED, None),
            trial(3, TrialState.COMPLETED, 0.6),
            trial(4, TrialState.REJECTED, None),
            trial(5, TrialState.COMPLETED, 0.6),
            trial(6, TrialState.PAUSED, 0.1),
        )
    )
    assert [entry.number for entry in ranked(state)] == [3, 5, 1, 0, 6, 2, 4]
    assert state.winner == state.trials[3]
    assert replay([]).winner is None


@pytest.mark.parametrize("trial", [0, None])
def test_an_event_of_a_later_version_is_refused(trial: int | None) -> None:
    with pytest.raises(LedgerError, match="event 'frozen' that this version does not know"):
        replay([event("proposed", 0, values={}, cost=COST), event("frozen", trial)])


def test_a_trial_is_compared_by_the_mean_of_its_last_three_epochs() -> None:
    trial = Trial(0, {}, epochs=5, scores=(0.1, 0.3, 0.2, 0.7, 0.6))
    assert [trial.reached(epoch) for epoch in (1, 5, 6)] == [True, True, False]
    assert trial.score_at(1) == pytest.approx(0.1)
    assert trial.score_at(2) == pytest.approx(0.2)
    assert trial.score_at(4) == pytest.approx((0.3 + 0.2 + 0.7) / 3)
    assert trial.score == pytest.approx(trial.score_at(5)) == pytest.approx(0.5)
