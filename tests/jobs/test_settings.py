"""The settings of a study come back from the ledger unchanged."""

from dataclasses import replace

from benchmarks.recorded import build_settings
from marsseg.config import ExperimentConfig
from marsseg.jobs.settings import StudySettings


def test_settings_come_back_as_they_were_stored() -> None:
    settings = build_settings(40)
    assert settings.plan.epochs > 0
    assert StudySettings.from_dict(settings.to_dict()) == settings


def test_choices_are_what_trials_may_differ_in() -> None:
    assert build_settings(40).choices == list(build_settings(40).build_space().by_path)
    recipes = {
        name: ExperimentConfig().with_values(values).model_dump(mode="json")
        for name, values in {"plain": {}, "dice": {"loss.terms": "dice"}, "deep": {"model.num_blocks": 5}}.items()
    }
    settings = replace(build_settings(40), kind="training", space={}, configs=recipes)
    assert settings.choices == ["loss.terms", "model.num_blocks"]
