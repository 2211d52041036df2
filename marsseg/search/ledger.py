"""The ledger: the durable, append-only record of every search in one SQL database.

Events are facts and decisions: a proposal, a segment handed to a worker, a segment finished. `state.py` computes the
state that they add up to. One driver at a time may append to a search: it holds a file lock, and a fencing token keeps
out a driver that lost its lock without noticing.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from filelock import FileLock, Timeout

from marsseg.errors import LedgerError, NotFoundError, TakenOverError, UsageError, first_line, nearest_name_hint
from marsseg.plain_json import read_json

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BUSY_TIMEOUT_S = 60
_LOOK_S = 0.5

_metadata = sa.MetaData()
_searches = sa.Table(
    "searches",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(64), unique=True, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("settings", sa.Text, nullable=False),
    sa.Column("fence", sa.Integer, nullable=False),
)
_events = sa.Table(
    "events",
    _metadata,
    sa.Column("search_id", sa.ForeignKey("searches.id"), primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("trial", sa.Integer),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
)
_epochs = sa.Table(
    "epochs",
    _metadata,
    sa.Column("search_id", sa.ForeignKey("searches.id"), primary_key=True),
    sa.Column("trial", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("record", sa.Text, nullable=False),
)


class Event(NamedTuple):
    """One entry of a search's record.

    Args:
        kind: `proposed`, `measured`, `rejected`, `started`, `finished`, `failed`, `tracked`, `interrupted`, `opened` or
            `closed`.
        trial: The trial's number, or None where the entry is about the search.
        payload: Plain values.
        created_ms: Unix time in milliseconds; no decision depends on it.
    """

    kind: str
    trial: int | None
    payload: Mapping[str, Any]
    created_ms: int


class Ledger:
    """All searches of one database.

    Args:
        path: The SQLite file; if it is missing, the first search creates it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.folder = path.parent
        self._engine = sa.create_engine(
            f"sqlite:///{path}", poolclass=sa.NullPool, connect_args={"timeout": _BUSY_TIMEOUT_S}
        )
        self._has_tables = False
        self._is_there()

    def _is_there(self) -> bool:
        """Whether a search has created the file by now."""
        if self._path.exists():
            self._make_tables()
        return self._has_tables

    def _make_tables(self) -> None:
        if self._has_tables:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Two processes that open a fresh file at once would both create its tables.
            with FileLock(f"{self._path}.lock", timeout=_BUSY_TIMEOUT_S):
                _metadata.create_all(self._engine)
            self._has_tables = True
        except (sa.exc.DatabaseError, OSError, Timeout) as error:
            raise LedgerError(f"{self._path}: cannot be opened as a ledger ({_reason(error)})") from None

    def create_search(self, name: str, settings: Mapping[str, Any]) -> None:
        """Adds a search.

        Raises:
            UsageError: If the name is taken or not valid.
        """
        check_name(name)
        self._make_tables()
        row = {"name": name, "created_ms": _now_ms(), "settings": json.dumps(settings), "fence": 0}
        try:
            with _transaction(self._engine) as connection:
                connection.execute(_searches.insert().values(row))
        except sa.exc.IntegrityError:
            raise UsageError(
                f"'{name}' exists already; choose another --name, or resume it with --resume {name}"
            ) from None

    def names(self) -> list[str]:
        """The searches, oldest first."""
        if not self._is_there():
            return []
        with _transaction(self._engine) as connection:
            return list(connection.execute(sa.select(_searches.c.name).order_by(_searches.c.id)).scalars())

    def settings(self, name: str) -> dict[str, Any]:
        """The settings a search was started with."""
        settings: dict[str, Any] = json.loads(self._row(name).settings)
        return settings

    def events(self, name: str) -> list[Event]:
        """A search's record, oldest first."""
        search_id = self._row(name).id
        columns = _events.c.kind, _events.c.trial, _events.c.payload, _events.c.created_ms
        query = sa.select(*columns).where(_events.c.search_id == search_id).order_by(_events.c.sequence)
        with _transaction(self._engine) as connection:
            rows = connection.execute(query).all()
        # Reading one large document takes a third of the time of many thousand small ones.
        payloads = read_json(f"[{','.join([payload for _, _, payload, _ in rows])}]")
        return [
            Event(kind, trial, payload, created_ms)
            for (kind, trial, _, created_ms), payload in zip(rows, payloads, strict=True)
        ]

    def epochs(self, name: str, trial: int) -> list[dict[str, Any]]:
        """A trial's epochs, in order."""
        search_id = self._row(name).id
        query = (
            sa.select(_epochs.c.record)
            .where(_epochs.c.search_id == search_id, _epochs.c.trial == trial)
            .order_by(_epochs.c.epoch)
        )
        with _transaction(self._engine) as connection:
            return [json.loads(record) for record in connection.execute(query).scalars()]

    @contextmanager
    def drive(self, name: str) -> Iterator["LedgerWriter"]:
        """Makes this process the search's only driver until the block ends.

        Raises:
            NotFoundError: If there is no such search.
            LedgerError: If another process drives it.
        """
        search_id = self._row(name).id
        lock = self._lock(name)
        try:
            # A process that checks whether the search is driven holds the lock for a moment.
            lock.acquire(timeout=_LOOK_S, poll_interval=_LOOK_S / 10)
        except Timeout:
            raise LedgerError(f"search '{name}' is being run by another process; wait for it or stop it") from None
        try:
            with _transaction(self._engine) as connection:
                mine = _searches.c.id == search_id
                connection.execute(_searches.update().where(mine).values(fence=_searches.c.fence + 1))
                fence = connection.execute(sa.select(_searches.c.fence).where(mine)).scalar_one()
            yield LedgerWriter(self._engine, search_id, fence)
        finally:
            lock.release()

    def is_driven(self, name: str) -> bool:
        """Whether a process is driving a search now."""
        lock = self._lock(name)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False

    def _lock(self, name: str) -> FileLock:
        return FileLock(self._path.with_name(f"{self._path.name}.{name}.lock"))

    def _row(self, name: str) -> Any:
        row = None
        if self._is_there():
            with _transaction(self._engine) as connection:
                row = connection.execute(sa.select(_searches).where(_searches.c.name == name)).one_or_none()
        if row is None:
            names = self.names()
            raise NotFoundError(
                f"there is no search '{name}'{nearest_name_hint(name, names)}"
                + (f"; there are: {', '.join(names[-5:])}" if names else f"; none has been started in {self.folder}")
            )
        return row


class LedgerWriter:
    """Appends to one search's record, each entry in a transaction of its own; made by `Ledger.drive`."""

    def __init__(self, engine: sa.Engine, search_id: int, fence: int) -> None:
        self._engine = engine
        self._search_id = search_id
        self._fence = fence

    def update_settings(self, settings: Mapping[str, Any]) -> None:
        """Replaces the search's settings, for example when its budget is extended.

        Raises:
            TakenOverError: If another driver has taken over.
        """
        with _transaction(self._engine) as connection:
            self._check_fence(connection)
            mine = _searches.update().where(_searches.c.id == self._search_id)
            connection.execute(mine.values(settings=json.dumps(settings)))

    def append(self, kind: str, trial: int | None = None, **payload: Any) -> Event:
        """Adds an entry.

        Raises:
            TakenOverError: If another driver has taken over.
        """
        text = json.dumps(payload)
        # As a replay will read it.
        event = Event(kind, trial, read_json(text), _now_ms())
        mine = _events.c.search_id == self._search_id
        with _transaction(self._engine) as connection:
            self._check_fence(connection)
            last = connection.execute(sa.select(sa.func.max(_events.c.sequence)).where(mine)).scalar()
            connection.execute(
                _events.insert().values(
                    search_id=self._search_id,
                    sequence=0 if last is None else last + 1,
                    kind=kind,
                    trial=trial,
                    payload=text,
                    created_ms=event.created_ms,
                )
            )
        return event

    def append_epoch(self, trial: int, epoch: int, record: Mapping[str, Any]) -> bool:
        """Adds an epoch unless it is there already, as happens after a kill between checkpoint and message.

        Returns:
            Whether it was new.

        Raises:
            TakenOverError: If another driver has taken over.
        """
        key = {"search_id": self._search_id, "trial": trial, "epoch": epoch}
        present = sa.select(sa.func.count()).select_from(_epochs).where(*(_epochs.c[k] == v for k, v in key.items()))
        with _transaction(self._engine) as connection:
            self._check_fence(connection)
            if connection.execute(present).scalar_one():
                return False
            connection.execute(_epochs.insert().values(**key, record=json.dumps(record)))
        return True

    def _check_fence(self, connection: sa.Connection) -> None:
        # Writing first takes the database's write lock, so that nobody can slip in after the check.
        held = _searches.update().where(_searches.c.id == self._search_id, _searches.c.fence == self._fence)
        if connection.execute(held.values(fence=self._fence)).rowcount != 1:
            raise TakenOverError("another process has taken this search over; this one stops")


@contextmanager
def _transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that raises database errors as ours: a full disk, a damaged file, a lock held for too long."""
    try:
        with engine.begin() as connection:
            yield connection
    except sa.exc.IntegrityError:
        raise
    except sa.exc.DatabaseError as error:
        raise LedgerError(f"{engine.url.database}: the ledger cannot be read or written ({_reason(error)})") from None


def check_name(name: str) -> None:
    """Refuses a name that a search cannot have.

    Raises:
        UsageError: If the name is empty, too long or holds anything but letters, digits, '.', '_' and '-'.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise UsageError(f"expected a name of at most 64 letters, digits, '.', '_' or '-', found {name!r}")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _reason(error: BaseException) -> str:
    return first_line(getattr(error, "orig", None) or error)
