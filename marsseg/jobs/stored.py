"""Studies in the ledger: which is the latest, and the settings each was started with."""

from marsseg.errors import LedgerError, NotFoundError, UsageError
from marsseg.jobs.home import Home
from marsseg.jobs.settings import StudySettings
from marsseg.search.ledger import Ledger


def stored_settings(ledger: Ledger, name: str) -> StudySettings:
    """The settings a study was started with.

    Raises:
        NotFoundError: If there is none of this name.
        LedgerError: If a version wrote it that knew other settings.
    """
    values = ledger.settings(name)
    try:
        return StudySettings.from_dict(values)
    except (KeyError, TypeError):
        raise LedgerError(
            f"'{name}' was written by another version of marsexp; use that version, or another MARSEXP_HOME"
        ) from None


def latest_study(ledger: Ledger) -> StudySettings:
    """The study that was started last; the confirmation of a search is a part of that search.

    Raises:
        NotFoundError: If there is none.
        LedgerError: If a version wrote it that knew other settings.
    """
    for name in reversed(ledger.names()):
        settings = stored_settings(ledger, name)
        if not settings.confirms:
            return settings
    raise NotFoundError(
        f"there is no search yet in {ledger.folder} (MARSEXP_HOME names another folder); start one with: "
        "marsexp search --budget 40"
    )


def load_settings(home: Home, name: str, kind: str) -> StudySettings:
    """The settings a study of this kind was started with.

    Raises:
        NotFoundError: If there is none of this name.
        UsageError: If it is of another kind.
        LedgerError: If a version wrote it that knew other settings.
    """
    settings = stored_settings(Ledger(home.ledger), name)
    if settings.kind != kind:
        raise UsageError(f"'{name}' is a {settings.kind}; {settings.resume_hint}")
    return settings
