"""The leaderboard as text: every cell is shown, unchanged, within the terminal's width."""

from typing import Any

import pytest

from marsseg.report.leaderboard import render_csv, render_html, render_plan, render_recipes, render_text


def row(rank: int, **changes: Any) -> dict[str, Any]:
    values = {"model.num_blocks": 4, "loss.terms": "cross_entropy+dice", "optimizer.learning_rate": 0.00123456}
    score = {"best_val_mean_iou": 0.51, "best_epoch": 3, "params": 1234567, "duration_s": 1.0}
    fixed = {"rank": rank, "trial": 10 - rank, "run_id": "0123456789abcdef", "state": "completed", "epochs": 4}
    return {**fixed, **score, "reason": "", "values": values, **changes}


def document(*trials: dict[str, Any]) -> dict[str, Any]:
    fixed = {"search": "s", "objectives": ["val_mean_iou"], "epochs_spent": 8, "epochs_planned": 9}
    return {**fixed, "trials": list(trials)}


def test_columns_stand_below_each_other() -> None:
    failed = row(2, state="failed", run_id=None, best_val_mean_iou=None, params=0, reason="NaN", values={"seed": 1})
    assert render_text(document(row(1), failed), width=160) == (
        "s: 8 of 9 planned epochs; 1 completed, 1 failed\n"
        "#  trial  run       state      epochs  best_val_mean_iou     params  values\n"
        "1      9  01234567  completed       4             0.5100  1,234,567  "
        "num_blocks=4, terms=cross_entropy+dice, learning_rate=0.001235\n"
        "2      8            failed          4                             0  seed=1  (NaN)\n"
    )


def test_several_objectives_have_their_columns_and_the_front_is_marked() -> None:
    rows = (row(1, flops=606_134_272, on_front=True), row(2, flops=12_345_678, on_front=False))
    several = {**document(*rows), "objectives": ["val_mean_iou", "params", "flops"]}
    title, head, first, second = render_text(several, width=160).splitlines()
    assert title.endswith("; 1 on the Pareto front")
    assert head.split()[5:] == ["best_val_mean_iou", "params", "flops", "on_front", "values"]
    assert first.split()[5:10] == ["0.5100", "1,234,567", "606", "M", "true"]
    assert second.split()[6:9] == ["1,234,567", "12", "M"]
    assert "true" not in second
    csv = [line.split(",") for line in render_csv(several).splitlines()]
    flops, on_front = csv[0].index("flops"), csv[0].index("on_front")
    assert [(line[flops], line[on_front]) for line in csv[1:]] == [("606134272", "True"), ("12345678", "False")]
    assert "<th>flops</th><th>on_front</th>" in render_html(several)


@pytest.mark.parametrize("width", [100, 110, 130])
def test_what_is_too_long_goes_on_below(width: int) -> None:
    lines = render_text(document(row(1, reason="a word of " + "x" * 90)), width=width).splitlines()
    assert max(map(len, lines)) <= width
    indent = lines[1].index("values")
    assert all(line[:indent].isspace() for line in lines[3:])
    text = "".join(line[indent:] for line in lines[2:]).replace(" ", "")
    assert text == f"num_blocks=4,terms=cross_entropy+dice,learning_rate=0.001235(awordof{'x' * 90})"


def test_brackets_in_a_reason_are_no_markup() -> None:
    assert "(expected [low, high], found [b]1[/b])" in render_text(
        document(row(1, reason="expected [low, high], found [b]1[/b]", values={}))
    )


def test_seeds_of_a_recipe_are_told_together() -> None:
    recipes = [
        {"recipe": "dice", "seeds": 2, "best_val_mean_iou": {"mean": 0.51234, "sd": 0.01}},
        {"recipe": "flips", "seeds": 1, "best_val_mean_iou": {"mean": 0.4, "sd": 0.0}},
        {"recipe": "cutmix", "seeds": 0, "best_val_mean_iou": None},
        {"recipe": "rotation", "seeds": 0, "best_val_mean_iou": None},
    ]
    assert render_recipes({**document(), "recipes": recipes}).splitlines()[1:] == [
        "dice   0.5123 ± 0.0100, 2 seeds",
        "flips  0.4000, 1 seed",
        "none completed: cutmix, rotation",
    ]
    assert render_recipes(document()) == ""


def test_a_search_without_trials_has_a_heading() -> None:
    assert render_text(document()).splitlines()[0] == "s: 8 of 9 planned epochs; no trials yet"


def test_plan_shows_its_price_and_folds_its_configurations() -> None:
    sample = {"trial": 0, "params": 1_234_567, "flops": 606_134_272, "reason": "", "values": {"model.num_blocks": 3}}
    refused = {**sample, "trial": 1, "params": None, "flops": None, "reason": "too deep"}
    document = {
        **{"budget": 40, "scheduler": "asha", "objectives": ["val_mean_iou"]},
        **{"epochs_planned": 352, "expected_s": 840.0},
        **{"full_training_epochs": 1080, "full_training_s": 1860.0, "trials": [sample, refused]},
    }
    assert render_plan(document, width=80).splitlines() == [
        "plan: 40 configurations, scheduler asha, about 352 epochs, about 14.0 min",
        "full training of all: 1080 epochs, about 31.0 min",
        "the first configurations:",
        "trial     params  flops  values",
        "    0  1,234,567  606 M  num_blocks=3",
        "    1                    num_blocks=3  (too deep)",
    ]
    several = {**document, "objectives": ["val_mean_iou", "params"]}
    assert render_plan(several).startswith(
        "plan: 40 configurations, scheduler asha, for val_mean_iou and params, about 352 epochs"
    )
    hours = {**document, "budget": "2h", "epochs_planned": 0, "full_training_epochs": None, "full_training_s": None}
    assert render_plan(hours).splitlines()[:2] == [
        "plan: a budget of 2h, scheduler asha, about 14.0 min",
        "the first configurations:",
    ]
