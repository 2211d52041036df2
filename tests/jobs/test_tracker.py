"""The tracker of a search that is gone on with: the store is sent what it lacks, and nothing else."""

from pathlib import Path
from typing import Any

import pytest

from marsseg.jobs.candidates import build_candidates
from marsseg.jobs.home import Home
from marsseg.jobs.settings import StudySettings
from marsseg.jobs.tracker import StudyTracker
from marsseg.search.ledger import Ledger
from marsseg.search.state import replay
from marsseg.tracking.recorder import Recorder
from marsseg.tracking.store import open_store
from tests.conftest import Marsexp


class CountingRecorder(Recorder):
    """Notes which runs' states are sent."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.sent: list[str] = []

    def set_tags(self, run_id: str, tags: Any) -> None:
        self.sent.append(run_id)
        super().set_tags(run_id, tags)


def catch_up(home: Path) -> list[str]:
    """What a new driver sends before it goes on."""
    ledger, recorder = Ledger(home / "ledger.db"), CountingRecorder(open_store(home))
    settings = StudySettings.from_dict(ledger.settings("tiny"))
    candidates = build_candidates(settings)
    with ledger.drive("tiny") as writer:
        StudyTracker(
            settings,
            config_of=lambda trial: candidates.config(trial.values),
            ledger=ledger,
            writer=writer,
            home=Home(home),
            open_recorder=lambda: recorder,
            profile={},
        ).catch_up(replay(ledger.events("tiny")))
    return recorder.sent


@pytest.mark.parametrize(
    ("tag", "value"), [("marsexp.state", "running"), ("marsexp.epochs", "0"), (None, "RUNNING")], ids=str
)
def test_only_a_trial_that_the_store_does_not_have_as_it_is_gets_sent(
    copied_search: Marsexp, leaderboard: dict[str, Any], tag: str | None, value: str
) -> None:
    assert catch_up(copied_search.home) == []
    lacking = leaderboard["trials"][1]["run_id"]
    client = open_store(copied_search.home).client
    before = client.get_run(lacking)
    if tag is None:
        client.update_run(lacking, value)
    else:
        client.set_tag(lacking, tag, value)
    assert catch_up(copied_search.home) == [lacking]
    after = client.get_run(lacking)
    assert after.data.tags == before.data.tags
    assert after.info.status == before.info.status
