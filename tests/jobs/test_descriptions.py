"""Descriptions of runs: they match the trial's state and never overwrite what people have written."""

from dataclasses import replace
from typing import Any

import pytest

from marsseg.jobs.descriptions import first_description, merge, study_section, trial_section
from marsseg.jobs.home import Home
from marsseg.jobs.settings import StudySettings
from marsseg.search.budget import Budget
from marsseg.search.ledger import Ledger
from marsseg.search.state import Trial, TrialState
from tests.conftest import Marsexp

SETTINGS: dict[str, Any] = {
    **{
        "name": "canyon",
        "uid": "1",
        "kind": "search",
        "seed": 0,
        "budget": Budget(6),
        "engine": "optuna",
        "sampler": "tpe",
    },
    **{"scheduler": "asha", "min_epochs": 1, "max_epochs": 4, "reduction_factor": 2, "workers": 1, "configs": {}},
    **{"fingerprint": {}, "space_name": "smoke"},
}
SEARCH = StudySettings(**SETTINGS)
TRIAL = Trial(3, {"loss.terms": "dice", "model.se": "a|b"}, until=4, run_id="f00d")


def test_what_people_write_around_the_section_stays() -> None:
    first = first_description("my note", "is running")
    assert first.startswith("my note\n\n")
    edited = f"before {first} behind"
    assert merge(edited, "has ended") == edited.replace("is running", "has ended")


@pytest.mark.parametrize("text", ["all mine", "cut <!-- marsexp --> off"])
def test_a_description_without_the_section_is_left_alone(text: str) -> None:
    assert merge(text, "has ended") == text


def test_an_empty_description_gets_the_section() -> None:
    assert "has ended" in merge("", "has ended")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (TrialState.RUNNING, "is being trained to epoch 4"),
        (TrialState.PAUSED, "is paused after 2 epochs"),
        (TrialState.COMPLETED, "is completed after 2 epochs"),
        (TrialState.STOPPED, "was stopped after 2 epochs"),
        (TrialState.FAILED, "failed after 2 epochs: `out of 'memory'`"),
    ],
)
def test_trial_tells_its_state(state: TrialState, words: str) -> None:
    trial = replace(TRIAL, state=state, epochs=2, reason="out of `memory`\nat line 3")
    text = trial_section(SEARCH, trial, "#/view")
    assert f"**Trial 3 of [canyon](#/view)** {words}" in text
    assert "| loss.terms | dice |" in text
    assert "| model.se | a\\|b |" in text


def test_reproduce_is_offered_once_there_is_something_to_reproduce() -> None:
    assert "marsexp reproduce" not in trial_section(SEARCH, replace(TRIAL, state=TrialState.RUNNING), "")
    ran = replace(TRIAL, state=TrialState.PAUSED, epochs=1, best_val_mean_iou=0.25, best_epoch=1, facts={"epochs": 1})
    text = trial_section(SEARCH, ran, "")
    assert "best_val_mean_iou **0.2500** at epoch 1" in text
    assert "paused after 1 epoch," in text
    assert text.count("`marsexp reproduce f00d`") == 1


def test_recipe_is_called_by_its_name() -> None:
    settings = replace(SEARCH, kind="training")
    trial = Trial(0, {"recipe": "unet", "seed": 7}, TrialState.RUNNING)
    assert trial_section(settings, trial, "").startswith("**Recipe unet, seed 7, of canyon**")


def test_study_tells_what_was_asked_for_before_there_is_a_result() -> None:
    text = study_section(SEARCH, "#/view")
    assert "6 configurations from `smoke`, optuna (tpe)" in text
    assert "(#/view)" in text
    assert "reproduce" not in text


def test_edited_descriptions_survive_a_resumed_search(copied_search: Marsexp, leaderboard: dict[str, Any]) -> None:
    from marsseg.tracking.recorder import NOTE_TAG, Recorder
    from marsseg.tracking.store import embedded_uri, open_store

    home = Home(copied_search.home)
    recorder = Recorder(open_store(home.path, embedded_uri(home.path)))
    winner, search_run = leaderboard["trials"][0]["run_id"], leaderboard["search_run_id"]
    for run_id in (winner, search_run):
        note = recorder.note(run_id)
        assert note.startswith("a test\n\n")
        recorder.set_tags(run_id, {NOTE_TAG: note.replace("a test", "a finding") + "\n\nand more"})
    assert copied_search("search", "--resume", "tiny").status == 0
    assert Ledger(home.ledger).names() == ["tiny"]
    for run_id in (winner, search_run):
        note = recorder.note(run_id)
        assert note.startswith("a finding\n\n")
        assert note.endswith("\n\nand more")
        assert note.count(f"marsexp reproduce {winner}") == 1
