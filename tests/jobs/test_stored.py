"""Which study is the latest, and studies that another version wrote."""

from pathlib import Path

import pytest

from marsseg.errors import LedgerError, NotFoundError, UsageError
from marsseg.jobs.home import Home
from marsseg.jobs.stored import latest_study, load_settings, stored_settings
from marsseg.search.ledger import Ledger
from tests.jobs.toy_study import build_settings


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def ledger(home: Home) -> Ledger:
    ledger = Ledger(home.ledger)
    for name, kind, confirms in [
        ("rover", "search", ""),
        ("report", "training", ""),
        ("rover-confirm-3x3", "training", "rover"),
    ]:
        ledger.create_search(name, build_settings(name=name, kind=kind, confirms=confirms).to_dict())
    return ledger


def test_the_latest_study_is_no_confirmation(ledger: Ledger) -> None:
    assert latest_study(ledger).name == "report"


def test_without_any_it_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"there is no search yet in .*none .*; start one with"):
        latest_study(Ledger(tmp_path / "none" / "ledger.db"))


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("report", "search", "'report' is a training; resume with: marsexp train --resume report"),
        ("rover", "training", "'rover' is a search; resume with: marsexp search --resume rover"),
    ],
)
def test_another_kind_is_refused(home: Home, ledger: Ledger, name: str, kind: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        load_settings(home, name, kind)


def test_what_another_version_wrote_is_refused_in_one_line(ledger: Ledger) -> None:
    settings = build_settings().to_dict()
    del settings["plan"]
    ledger.create_search("older", settings)
    ledger.create_search("newer", build_settings().to_dict() | {"colour": "red"})
    for name in ("older", "newer"):
        with pytest.raises(LedgerError, match=f"^'{name}' was written by another version of marsexp"):
            stored_settings(ledger, name)
