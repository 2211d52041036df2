"""The saved views: what they show, and that they fit into MLflow's tags."""

import json

from marsseg.tracking.view import experiment_tags, run_color, search_view_tags, varying_choices, viewed_searches

MAX_TAG_LENGTH = 20_000


def test_fields_that_vary_are_shown_and_what_is_often_searched_comes_first() -> None:
    runs = [
        {"seed": "0", "model.new": "a", "model.num_blocks": "2", "loss.terms": "dice", "optimizer.name": "adam"},
        {"seed": "1", "model.new": "b", "model.num_blocks": "3", "loss.terms": "dice", "optimizer.name": "adamw"},
    ]
    assert varying_choices(runs) == ["model.num_blocks", "optimizer.name", "model.new"]


def test_a_field_that_an_old_run_lacks_is_no_axis() -> None:
    assert varying_choices([{"model.se": "none"}, {"model.se": "skip", "model.stn": "a"}]) == ["model.se"]


def test_without_runs_nothing_varies() -> None:
    assert varying_choices([]) == []


def test_view_brings_columns_order_and_charts() -> None:
    tags = search_view_tags("canyon", ["optimizer.name", "model.num_blocks"])
    view = json.loads(tags["mlflow.sharedViewState.search-canyon"])
    state = json.loads(view["state"])
    assert "'canyon'" in state["searchFilter"]
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`best_val_mean_iou`", False)
    assert state["selectedColumns"][-2:] == ["params.`model.num_blocks`", "params.`optimizer.name`"]
    assert set(state["columnWidths"]) == set(state["columnOrder"]) == set(state["selectedColumns"])
    sections = {section["uuid"] for section in state["compareRunSections"]}
    charts = state["compareRunCharts"]
    assert {chart["metricSectionId"] for chart in charts} <= sections
    assert {chart["type"] for chart in charts} == {"LINE", "BAR", "PARALLEL", "SCATTER"}
    assert len({chart["uuid"] for chart in charts}) == len(charts)


def test_searches_are_known_by_their_views() -> None:
    tags = {**experiment_tags(), **search_view_tags("ridge", []), **search_view_tags("canyon", [])}
    assert viewed_searches(tags) == ["canyon", "ridge"]


def test_largest_view_fits_into_a_tag() -> None:
    choices = [f"model.some_rather_long_name_{number}" for number in range(60)]
    for tags in (search_view_tags("n" * 64, choices), experiment_tags(choices)):
        assert max(len(value) for value in tags.values()) < MAX_TAG_LENGTH


def test_colours_differ() -> None:
    colours = [run_color(number) for number in range(50)]
    assert len(set(colours)) == 50
    assert all(len(colour) == 7 and int(colour[1:], 16) >= 0 for colour in colours)
