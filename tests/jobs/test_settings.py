"""What a study was started with survives the ledger."""

from benchmarks.recorded import build_settings
from marsseg.jobs.settings import StudySettings


def test_settings_come_back_as_they_were_stored() -> None:
    settings = build_settings(40)
    assert settings.plan.epochs > 0
    assert StudySettings.from_dict(settings.to_dict()) == settings
