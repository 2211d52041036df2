"""What a search is expected to spend, from the costs of its configurations."""

import pytest

from marsseg.search.plan import Plan, expected_plan
from marsseg.search.scheduler import Rungs
from marsseg.search.schedulers import SCHEDULERS
from marsseg.search.state import Cost

RUNGS = Rungs(3, 27, 3)
CHEAP, DEAR = Cost(1.0, 1.0), Cost(3.0, 1.0)


def test_full_training_of_all_costs_what_they_cost_together() -> None:
    plan = expected_plan(SCHEDULERS["none"](RUNGS), 12, [CHEAP])
    assert plan == Plan(12 * 27, 12, 12 * 27)
    mixed = expected_plan(SCHEDULERS["none"](RUNGS), 40, [CHEAP, DEAR])
    assert (mixed.epochs, mixed.segments) == (40 * 27, 40)
    assert mixed.cost / mixed.epochs == pytest.approx(2, abs=0.25)


def test_a_scheduler_that_looks_at_prices_trains_cheap_configurations_longer() -> None:
    plan = expected_plan(SCHEDULERS["freeze-thaw"](RUNGS), 40, [CHEAP, DEAR])
    assert plan.cost / plan.epochs < 1.9
    indifferent = expected_plan(SCHEDULERS["asha"](RUNGS), 40, [CHEAP, DEAR])
    assert indifferent.cost / indifferent.epochs == pytest.approx(2, abs=0.25)


@pytest.mark.parametrize("name", ["asha", "topk", "median"])
def test_beyond_what_is_simulated_it_grows_in_proportion(name: str) -> None:
    once, often = (expected_plan(SCHEDULERS[name](RUNGS), trials, [CHEAP, DEAR]) for trials in (40, 120))
    assert often == once.scaled(3)


def test_it_is_the_same_each_time() -> None:
    scheduler = SCHEDULERS["freeze-thaw"](RUNGS)
    assert expected_plan(scheduler, 10, [CHEAP, DEAR]) == expected_plan(scheduler, 10, [CHEAP, DEAR])
