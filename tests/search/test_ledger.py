"""The ledger under several writers, kills, lost locks and torn files."""

import multiprocessing
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event as Flag
from pathlib import Path
from typing import Any

import pytest

from marsseg.errors import LedgerError, NotFoundError, UsageError
from marsseg.search.ledger import Ledger, check_name

SPAWN = multiprocessing.get_context("spawn")
NUM_APPENDED = 100


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Ledger:
    ledger = Ledger(path)
    ledger.create_search("one", {"budget": 4})
    return ledger


@contextmanager
def started(target: Any, *args: Any) -> Iterator[BaseProcess]:
    process = SPAWN.Process(target=target, args=args)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def sequences(path: Path) -> list[int]:
    with closing(sqlite3.connect(path, timeout=60)) as connection:
        return [row[0] for row in connection.execute("select sequence from events order by sequence")]


def append_many(path: Path, name: str) -> None:
    ledger = Ledger(path)
    ledger.create_search(name, {})
    with ledger.drive(name) as writer:
        for number in range(NUM_APPENDED):
            writer.append("proposed", number, values={"n": number})
            writer.append_epoch(0, number + 1, {"epoch": number + 1})


def append_forever(path: Path) -> None:
    with Ledger(path).drive("one") as writer:
        for number in range(1_000_000):
            writer.append("proposed", number, values={"n": number, "padding": "x" * 500})


def drive_until_killed(path: Path, driving: Flag) -> None:
    with Ledger(path).drive("one"):
        driving.set()
        time.sleep(60)


def test_two_processes_on_a_fresh_file_lose_nothing(path: Path) -> None:
    with started(append_many, path, "one") as first, started(append_many, path, "two") as second:
        first.join(60)
        second.join(60)
        assert (first.exitcode, second.exitcode) == (0, 0)
    ledger = Ledger(path)
    assert sorted(ledger.names()) == ["one", "two"]
    for name in ledger.names():
        events = ledger.events(name)
        assert [event.trial for event in events] == list(range(NUM_APPENDED))
        assert [event.payload["values"]["n"] for event in events] == list(range(NUM_APPENDED))
        assert [record["epoch"] for record in ledger.epochs(name, 0)] == list(range(1, NUM_APPENDED + 1))


def test_a_second_driver_is_refused_until_the_first_is_gone_however_it_went(ledger: Ledger, path: Path) -> None:
    ledger.create_search("two", {})
    driving = SPAWN.Event()
    with started(drive_until_killed, path, driving):
        assert driving.wait(30)
        with pytest.raises(LedgerError, match=r"^search 'one' is being run by another process") as caught:
            ledger.drive("one").__enter__()
        assert "\n" not in str(caught.value)
        with ledger.drive("two") as writer:
            writer.append("closed")
    with ledger.drive("one") as writer:
        writer.append("closed")
    assert [event.kind for event in ledger.events("one")] == ["closed"]


def test_a_search_is_driven_as_long_as_its_driver_lives(ledger: Ledger, path: Path) -> None:
    driving = SPAWN.Event()
    assert not ledger.is_driven("one")
    with started(drive_until_killed, path, driving):
        assert driving.wait(30)
        assert ledger.is_driven("one")
    assert not ledger.is_driven("one")


def test_a_driver_may_begin_while_somebody_looks(ledger: Ledger, path: Path) -> None:
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            Ledger(path).is_driven("one")

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(50):
            with ledger.drive("one"):
                pass
    finally:
        over.set()
        looking.join()


def test_a_second_driver_in_the_same_process_is_refused_and_the_first_goes_on(ledger: Ledger, path: Path) -> None:
    with ledger.drive("one") as writer:
        with pytest.raises(LedgerError, match="being run by another process"):
            Ledger(path).drive("one").__enter__()
        writer.append("closed")
    assert len(ledger.events("one")) == 1


def test_a_driver_that_lost_its_lock_can_write_nothing_any_more(ledger: Ledger, path: Path) -> None:
    lost = ledger.drive("one")
    fenced_off = lost.__enter__()
    fenced_off.append("proposed", 0, values={})
    # Somebody deleted the lock file; a new file of that name is another lock.
    path.with_name("ledger.db.one.lock").unlink()
    with Ledger(path).drive("one") as writer:
        for write in (
            lambda: fenced_off.append("started", 0, until=3),
            lambda: fenced_off.append_epoch(0, 1, {"epoch": 1}),
            lambda: fenced_off.update_settings({"budget": 99}),
        ):
            with pytest.raises(LedgerError, match="taken this search over"):
                write()
        writer.append("rejected", 0, reason="toy")
    lost.__exit__(None, None, None)
    assert [event.kind for event in ledger.events("one")] == ["proposed", "rejected"]
    assert ledger.epochs("one", 0) == []
    assert ledger.settings("one") == {"budget": 4}


@pytest.mark.parametrize("written_before_the_kill", [1, 10, 25])
def test_a_kill_amid_appends_leaves_a_whole_record(ledger: Ledger, path: Path, written_before_the_kill: int) -> None:
    with started(append_forever, path):
        deadline = time.monotonic() + 30
        while len(sequences(path)) < written_before_the_kill:
            assert time.monotonic() < deadline
            time.sleep(0.001)
    events = ledger.events("one")
    assert len(events) >= written_before_the_kill
    assert [event.trial for event in events] == list(range(len(events)))
    with ledger.drive("one") as writer:
        writer.append("closed")
    assert sequences(path) == list(range(len(events) + 1))


@pytest.mark.parametrize("name", ["../x", "", "x" * 65, "..", ".", ".hidden", "a..b", "a/b", "a b", "a\n", "ä", "-x"])
def test_what_is_no_name_is_refused_everywhere(ledger: Ledger, name: str) -> None:
    for refuse in (check_name, lambda text: ledger.create_search(text, {})):
        with pytest.raises(UsageError, match="expected a name of at most 64 letters"):
            refuse(name)
    assert ledger.names() == ["one"]


@pytest.mark.parametrize("name", ["x", "x" * 64, "2026.11-nas_v2", "A.b"])
def test_a_plain_name_is_taken(ledger: Ledger, name: str) -> None:
    ledger.create_search(name, {})
    assert ledger.names()[-1] == name
    with ledger.drive(name) as writer:
        writer.append("closed")


def test_a_name_is_given_once_and_the_error_says_how_to_go_on(ledger: Ledger) -> None:
    with pytest.raises(UsageError, match=r"'one' exists already.*--resume one"):
        ledger.create_search("one", {"budget": 9})
    assert ledger.settings("one") == {"budget": 4}


def test_what_was_written_is_read_in_order_by_another_ledger(ledger: Ledger, path: Path) -> None:
    with ledger.drive("one") as writer:
        told = [
            writer.append("proposed", 0, values={"model.se": "none", "rate": 1e-4, "flips": True}),
            writer.append("tracked", run_id="ümläut"),
            writer.append("closed"),
        ]
        writer.update_settings({"budget": 9})
    assert Ledger(path).events("one") == told
    assert Ledger(path).settings("one") == {"budget": 9}


def test_an_epoch_stands_once_and_the_first_record_stays(ledger: Ledger) -> None:
    with ledger.drive("one") as writer:
        assert writer.append_epoch(3, 2, {"epoch": 2})
        assert writer.append_epoch(3, 1, {"epoch": 1})
        assert not writer.append_epoch(3, 2, {"epoch": 2, "again": True})
        assert writer.append_epoch(4, 2, {"epoch": 2})
    assert ledger.epochs("one", 3) == [{"epoch": 1}, {"epoch": 2}]
    assert ledger.epochs("one", 5) == []


def test_an_entry_that_cannot_be_written_leaves_nothing_behind(ledger: Ledger) -> None:
    with ledger.drive("one") as writer:
        with pytest.raises(TypeError):
            writer.append("proposed", 0, values=object())
        writer.append("closed")
    assert [event.kind for event in ledger.events("one")] == ["closed"]


def test_an_unknown_search_is_named_with_the_nearest_one(ledger: Ledger) -> None:
    def drive(name: str) -> None:
        ledger.drive(name).__enter__()

    for ask in (ledger.events, ledger.settings, drive):
        with pytest.raises(NotFoundError, match="no search 'onne'; did you mean 'one'") as caught:
            ask("onne")
        assert "\n" not in str(caught.value)


def test_looking_makes_no_ledger(path: Path) -> None:
    assert Ledger(path).names() == []
    with pytest.raises(NotFoundError, match="none has been started in "):
        Ledger(path).events("one")
    assert not path.parent.exists()


def test_what_another_has_begun_since_is_seen(path: Path) -> None:
    early = Ledger(path)
    Ledger(path).create_search("one", {})
    assert early.names() == ["one"]


def test_a_file_that_is_no_ledger_is_refused_in_one_line_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database\n" * 500)
    with pytest.raises(LedgerError, match=r"ledger\.db: cannot be opened as a ledger \(.+\)$") as caught:
        Ledger(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"not a database\n" * 500


def test_a_home_that_is_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("", encoding="utf-8")
    with pytest.raises(LedgerError, match="cannot be opened as a ledger"):
        Ledger(tmp_path / "home" / "ledger.db").create_search("one", {})


@pytest.fixture
def filled(ledger: Ledger, path: Path) -> Path:
    with ledger.drive("one") as writer:
        for number in range(100):
            writer.append("proposed", number, values={"padding": "x" * 500})
    return path


def test_an_event_may_name_a_file_that_is_no_utf_8(ledger: Ledger) -> None:
    reason = "no room: " + b"/rover/gr\xfcn".decode("utf-8", "surrogateescape")
    with ledger.drive("one") as writer:
        appended = writer.append("failed", 0, reason=reason)
    assert appended.payload["reason"] == reason
    assert ledger.events("one") == [appended]


def test_a_torn_ledger_is_refused_in_one_line(filled: Path) -> None:
    os.truncate(filled, filled.stat().st_size // 2)
    with pytest.raises(LedgerError, match="cannot be opened as a ledger"):
        Ledger(filled)


def test_a_ledger_with_a_damaged_page_is_an_error_of_ours(filled: Path) -> None:
    with filled.open("r+b") as file:
        file.seek(filled.stat().st_size // 2)
        file.write(b"\xff" * 8192)
    with pytest.raises(LedgerError):
        Ledger(filled).events("one")
