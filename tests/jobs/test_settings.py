"""What a study was started with survives the ledger, and what earlier versions wrote there is still read."""

from dataclasses import replace

from benchmarks.recorded import build_settings
from marsseg.jobs.settings import StudySettings
from marsseg.search.plan import Plan


def test_settings_come_back_as_they_were_stored() -> None:
    settings = build_settings(40)
    assert settings.plan.epochs > 0
    assert StudySettings.from_dict(settings.to_dict()) == settings


def test_epochs_that_an_earlier_version_planned_are_not_forgotten() -> None:
    settings = build_settings(40)
    stored = settings.to_dict()
    del stored["plan"]
    read = StudySettings.from_dict({**stored, "epochs_planned": 312})
    assert read == replace(settings, plan=Plan(epochs=312))
    assert read.epochs_planned == 312
