"""A driver that is asked to stop."""

from pathlib import Path

import pytest

from tests.jobs.toy_study import Study, build_settings


def test_a_search_that_is_stopped_remembers_how_long_it_was_running(tmp_path: Path) -> None:
    study = Study(tmp_path, build_settings(scheduler="none"))
    for epochs in (1, 2, 3):
        before = study.state.active_s
        with pytest.raises(KeyboardInterrupt):
            study.drive(should_stop=lambda epochs=epochs: len(study.ledger.epochs("toy", 0)) >= epochs)
        assert study.state.active_s > before, "no segment has ended yet"
    study.drive()
    assert study.state.closed
