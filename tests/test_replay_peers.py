"""The peers of the replay benchmark: on made-up curves each does what its library promises, and is charged for it."""

import random
from collections.abc import Iterable, Mapping, Sequence

import pytest

from benchmarks.replay.account import Account
from benchmarks.replay.peers import peers
from benchmarks.replay.policies import Policy, Progress
from benchmarks.replay.simple_peers import top
from marsseg.search.simulation import Curve
from marsseg.search.state import Cost

NAMES = [
    *("Optuna Hyperband", "Optuna successive halving", "Optuna median"),
    *("Keras Tuner Hyperband", "Syne Tune ASHA", "fewer full trainings", "top 1", "top 2"),
]
UNLIMITED = float("inf")


@pytest.fixture(scope="module")
def policies() -> Mapping[str, Policy]:
    return peers(30)


def policy(policies: Mapping[str, Policy], name: str) -> Policy:
    if name not in policies:
        pytest.skip("MARSEXP_SYNE_TUNE_PYTHON names no Python")
    return policies[name]


def flat(*scores: float, start: float = 0.0) -> list[Curve]:
    """Flat curves: the first epoch already shows the final score."""
    return [Curve((score,) * 27, Cost(1.0, start)) for score in scores]


def crossing(number: int) -> list[Curve]:
    """Noisy curves that overtake one another, each with a cost of its own."""
    rng = random.Random(number)
    return [
        Curve(
            tuple(rng.random() * epoch**0.5 / 5 + rng.gauss(0, 0.02) for epoch in range(1, 28)),
            Cost(rng.uniform(1, 3), rng.uniform(1, 3)),
        )
        for _ in range(number)
    ]


def stretches(progress: Iterable[Progress]) -> list[Progress]:
    """The last step of each stretch in which one configuration is trained without another in between."""
    progress = list(progress)
    after = [*progress[1:], (None, 0)]
    return [stretch for stretch, (following, _) in zip(progress, after, strict=True) if stretch[0] != following]


def epochs_reached(progress: Iterable[Progress]) -> list[int]:
    """The epochs of each configuration, in the configurations' order."""
    reached = dict(progress)
    return [reached[number] for number in sorted(reached)]


def cost(curves: Sequence[Curve], progress: Iterable[Progress]) -> float:
    account = Account(curves, UNLIMITED)
    assert all(account.train(*step) for step in progress)
    return account.spent


def test_every_peer_has_its_name(policies: Mapping[str, Policy]) -> None:
    assert [name for name in NAMES if name != "Syne Tune ASHA" or name in policies] == list(policies)
    assert policies.keys() - peers(26).keys() == {"Keras Tuner Hyperband"}


@pytest.mark.parametrize("name", NAMES)
def test_a_peer_trains_forward_in_the_order_and_within_its_limit(policies: Mapping[str, Policy], name: str) -> None:
    curves = crossing(30)
    full = cost(curves, [(number, 27) for number in range(30)])
    for limit in (full / 12, full / 4, UNLIMITED):
        progress = list(policy(policies, name)(curves, limit, 3))
        assert progress == list(policy(policies, name)(curves, limit, 3))
        assert cost(curves, progress) <= limit
        reached: dict[int, int] = {}
        for number, epoch in progress:
            assert epoch == reached.get(number, 0) + 1 <= 27
            assert number in reached or number == len(reached)
            reached[number] = epoch


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("top")])
def test_a_limit_only_cuts_off(policies: Mapping[str, Policy], name: str) -> None:
    curves = crossing(30)
    whole = list(policy(policies, name)(curves, UNLIMITED, 0))
    part = list(policy(policies, name)(curves, 100, 0))
    assert part == whole[: len(part)]
    assert cost(curves, whole[: len(part) + 1]) > 100


def test_an_account_charges_new_epochs_and_every_change() -> None:
    curves = [Curve((0.5,) * 27, Cost(1.0, 10.0)), Curve((0.5,) * 27, Cost(2.0, 20.0))]
    account = Account(curves, 100)
    spent = []
    for number, until in ((0, 3), (0, 3), (0, 9), (1, 1), (0, 10)):
        assert account.train(number, until)
        spent.append(account.spent)
    assert spent == [13, 13, 19, 41, 52]
    # 20 for the change, then 2 per epoch up to 100; epoch 1 is already paid for.
    assert not account.train(1, 27)
    assert (account.spent, account.progress[-1]) == (100, (1, 15))


def test_optuna_halving_lets_the_best_so_far_go_on(policies: Mapping[str, Policy]) -> None:
    progress = policies["Optuna successive halving"](flat(0.5, 0.4, 0.6, 0.3), UNLIMITED, 0)
    # Fewer than six on a rung: the best continues.
    assert stretches(progress) == [(0, 27), (1, 3), (2, 27), (3, 3)]


def test_optuna_median_begins_with_five_full_trainings(policies: Mapping[str, Policy]) -> None:
    progress = policies["Optuna median"](flat(0.1, 0.2, 0.3, 0.4, 0.5, 0.29, 0.31), UNLIMITED, 0)
    assert epochs_reached(progress) == [27, 27, 27, 27, 27, 3, 27]


def test_optuna_hyperband_prunes_in_each_bracket_from_its_own_rung(policies: Mapping[str, Policy]) -> None:
    curves = flat(*(1 - number / 100 for number in range(40)))
    first, second = (epochs_reached(policies["Optuna Hyperband"](curves, UNLIMITED, seed)) for seed in (0, 1))
    # Each is worse than all before it: the first of a bracket continues; the bracket whose first rung is the last epoch
    # prunes none.
    assert first[0] == 27
    assert set(first) == {3, 9, 27}
    # The study's name decides which brackets are drawn.
    assert first != second


def test_keras_tuner_resumes_whom_it_promotes(policies: Mapping[str, Policy]) -> None:
    scores = [((7 * number) % 30) / 30 for number in range(30)]
    best = sorted(range(27), key=lambda number: -scores[number])
    progress = list(policies["Keras Tuner Hyperband"](flat(*scores), UNLIMITED, 0))
    # Its first bracket: 27 configurations to epoch 1, 9 to 3, 3 to 9, 1 to 27. The second begins with 3 epochs and
    # finds 3 of the 12 configurations that it needs.
    expected = [*((number, 1) for number in range(27)), *((number, 3) for number in best[:9])]
    expected += [*((number, 9) for number in best[:3]), (best[0], 27), (27, 3), (28, 3), (29, 3)]
    account = Account(flat(*scores), UNLIMITED)
    assert all(account.train(*step) for step in expected)
    assert progress == account.progress
    assert len(progress) == 27 + 9 * 2 + 3 * 6 + 18 + 9


def test_syne_tune_resumes_whom_it_promotes(policies: Mapping[str, Policy]) -> None:
    progress = policy(policies, "Syne Tune ASHA")(flat(0.5, 0.4, 0.6, 0.3), UNLIMITED, 0)
    # A trial above the interpolated upper third of at least two continues. (2, 27) was paused at 3 and at 9.
    assert stretches(progress) == [(0, 3), (1, 3), (0, 9), (2, 27), (3, 3)]


def test_fewer_full_trainings_are_as_many_as_fit(policies: Mapping[str, Policy]) -> None:
    progress = policies["fewer full trainings"](flat(0.1, 0.2, 0.3, start=3.0), 70, 0)
    assert stretches(progress) == [(0, 27), (1, 27), (2, 7)]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        # 4 · 6 epochs, and 27 − 6 more for the best.
        (45, [(0, 6), (1, 6), (2, 6), (3, 6), (1, 27)]),
        (44, [(0, 5), (1, 5), (2, 5), (3, 5), (1, 27)]),
        (1000, [(0, 27), (1, 27), (2, 27), (3, 27)]),
        # Not enough for one epoch of all four: two are compared.
        (28, [(0, 1), (1, 27)]),
    ],
)
def test_top_takes_the_most_epochs_that_fit(limit: float, expected: list[Progress]) -> None:
    assert stretches(top(1)(flat(0.2, 0.4, 0.3, 0.1), limit, 0)) == expected


def test_top_compares_by_the_last_three_epochs() -> None:
    lucky = Curve((0.1,) * 5 + (0.9,) + (0.1,) * 21, Cost(1.0, 0.0))
    poor, steady = (Curve((0.0,) * 3 + (score,) * 24, Cost(1.0, 0.0)) for score in (0.2, 0.4))
    assert stretches(top(1)([lucky, steady], 33, 0)) == [(0, 6), (1, 27)]
    # 3 · 6 epochs and 2 · 21 more, the better of the two first.
    assert stretches(top(2)([lucky, poor, steady], 60, 0)) == [(0, 6), (1, 6), (2, 27), (0, 27)]
