"""Which run an ID, a prefix of one or `best` means."""

from pathlib import Path

import pytest

from marsseg.errors import NotFoundError
from marsseg.jobs.home import Home
from marsseg.jobs.runs import find_run
from marsseg.tracking.recorder import Recorder, RunSpec
from marsseg.tracking.store import open_store


def test_a_run_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    recorder = Recorder(open_store(tmp_path))
    run_id, other = (recorder.open_run(RunSpec({"name": name}, name, 1)) for name in ("one", "other"))
    assert run_id[:12] != other[:12]
    assert find_run(Home(tmp_path), None, run_id[:12])[1] == run_id
    absent = "0123456789ab" if not run_id.startswith("0123") else "ba9876543210"
    with pytest.raises(NotFoundError, match=f"there is no run whose ID begins with '{absent}'"):
        find_run(Home(tmp_path), None, absent)


def test_in_a_wrong_folder_no_store_is_created(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"there is no tracking store at .*mlflow\.db; set MARSEXP_HOME"):
        find_run(Home(tmp_path), None, "0123456789ab")
    with pytest.raises(NotFoundError, match=r"there is no tracking store at .*typo\.db; correct --tracking-uri"):
        find_run(Home(tmp_path), f"sqlite:///{tmp_path}/typo.db", "0123456789ab")
    assert list(tmp_path.iterdir()) == []
