"""Stages cover the epochs without gaps or overlaps."""

from marsseg.training.stages import Stage, stages_of
from tests.training.conftest import tiny_config


def test_without_a_warm_up_there_is_one_stage() -> None:
    config = tiny_config(training={"max_epochs": 7})
    assert stages_of(config) == (Stage(1, 7, config.loss, config.optimizer, config.schedule),)


def test_main_stage_begins_where_the_warm_up_ends() -> None:
    config = tiny_config(
        training={"max_epochs": 7}, warmup={"epochs": 3, "loss.terms": "dice", "optimizer.name": "sgd"}
    )
    warmup, main = stages_of(config)
    assert (warmup.first_epoch, warmup.last_epoch, main.first_epoch, main.last_epoch) == (1, 3, 4, 7)
    assert (warmup.optimizer.name, main.optimizer.name) == ("sgd", "adam")
    assert (dict(warmup.loss.terms), dict(main.loss.terms)) == ({"dice": 1.0}, {"cross_entropy": 1.0})
