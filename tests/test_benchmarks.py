"""Benchmarks: a result's line, interleaved measurement, and the page that is generated from the lines."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.__main__ import BENCHMARKS, PAGE, RESULTS, main, read_results, replace_results
from benchmarks.default_search import read_estimate, seconds_beyond_epochs
from benchmarks.page import draw_pictures, render_page
from benchmarks.processes import side
from benchmarks.remembered import recall, remembered
from benchmarks.results import Promise, Result
from benchmarks.sides.settings import Settings
from benchmarks.turns import take_turns
from marsseg.search.ledger import Ledger

FOLDER = Path(__file__).parents[1] / "benchmarks"
FIELDS = {"benchmark", "unit", "ours", "peer", "peer_name", "ratio", "repeats", "machine", "target", "met"}


def result(**changes: Any) -> Result:
    fields: dict[str, Any] = {
        "benchmark": "cli_start",
        "case": "a | b",
        "unit": "s",
        "ours": [1.0, 2.0, 4.0],
        "peer": [5.0, 6.0, 70.0],
        "peer_name": "other 1.0",
    }
    return Result(**{**fields, **changes})


def test_every_script_is_run_and_says_how_it_measures() -> None:
    scripts = {path.stem for path in FOLDER.glob("*.py") if 'if __name__ == "__main__":' in path.read_text("utf-8")}
    assert sorted(scripts - {"__main__"}) == sorted(BENCHMARKS)
    page = render_page([result(benchmark=name).line() for name in BENCHMARKS], BENCHMARKS)
    for name in BENCHMARKS:
        assert len(page.partition(f"\n### {name}\n")[2].partition("\n### ")[0]) > 100


def test_a_line_is_one_document_and_says_what_the_design_asks_for(capsys: pytest.CaptureFixture[str]) -> None:
    result(details={"steps": 10}).report()
    (line,) = capsys.readouterr().out.splitlines()
    document = json.loads(line)
    assert set(document) >= FIELDS
    assert (document["ours"], document["peer"], document["repeats"], document["steps"]) == (2.0, 6.0, 3, 10)
    assert (document["ours_quartiles"], document["peer_quartiles"]) == ([1.5, 3.0], [5.5, 38.0])
    # No machine name and no path.
    assert set(document["machine"]) == {"processor", "cores", "memory_gib", "os", "python", "tensorflow", "keras"}


@pytest.mark.parametrize(("higher_is_better", "ratio"), [(False, 3.0), (True, 1 / 3)])
def test_a_ratio_above_one_is_better(higher_is_better: bool, ratio: float) -> None:
    assert result(higher_is_better=higher_is_better).ratio == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("promise", "changes", "target", "met"),
    [
        (None, {}, None, None),
        (Promise(2.0), {}, "≤ 2 s", True),
        (Promise(1.9), {}, "≤ 1.9 s", False),
        (Promise(2.0), {"higher_is_better": True}, "≥ 2 s", True),
        (Promise(2.1), {"higher_is_better": True}, "≥ 2.1 s", False),
        (Promise(3.0, "ratio"), {}, "ratio ≥ 3", True),
        (Promise(3.1, "ratio"), {}, "ratio ≥ 3.1", False),
        (Promise(3.0, "ratio"), {"peer": []}, "ratio ≥ 3", None),
    ],
)
def test_a_promise_is_kept_up_to_its_limit(
    promise: Promise | None, changes: dict[str, Any], target: str | None, met: bool | None
) -> None:
    line = result(promise=promise, **changes).line()
    assert (line["target"], line["met"]) == (target, met)


def test_a_peer_that_is_not_installed_is_null() -> None:
    line = result(peer=[]).line()
    assert (line["peer"], line["ratio"], line["peer_quartiles"], line["peer_name"]) == (None, None, None, "other 1.0")
    assert "| other 1.0: not installed |  |" in render_page([line], BENCHMARKS)


def test_both_take_turns_and_who_is_first_changes() -> None:
    order: list[str] = []

    def measure(name: str) -> float:
        order.append(name)
        return float(len(order))

    ours, peer = take_turns(lambda: measure("ours"), lambda: measure("peer"), repeats=2, warm_up=1)
    assert order == ["peer", "ours", "ours", "peer", "peer", "ours"]
    assert (ours, peer) == ([3, 6], [4, 5])
    assert take_turns(lambda: 1.0, None, repeats=2) == ([1.0, 1.0], [])


def test_the_page_has_one_table_a_machine() -> None:
    here = result(promise=Promise(2.0), details={"steps": 10, "all": [1, 2]}).line()
    there = {**here, "machine": {**here["machine"], "processor": "Abacus"}, "benchmark": "throughput", "met": False}
    page = render_page([here, there], BENCHMARKS)
    table = page.partition("\n## On Abacus, ")[2].partition("\n## ")[0]
    row = r"a \| b | 2 s<br>1.5–3 | 6 s<br>5.5–38<br>other 1.0 | 3 | ≤ 2 s"
    day = here["measured"]
    assert f"| throughput | {row} | **no** | {day} | steps 10 |\n" in table
    assert f"| cli_start | {row} | yes | {day} | steps 10 |\n" in page.replace(table, "")


def test_the_page_shows_the_replay_of_the_machine_that_replayed_last() -> None:
    here = next(line for line in read_results(RESULTS) if "policies" in line)
    policies = {name: here["policies"][name] for name in ("freeze-thaw", "asha")}
    there = {**here, "machine": {**here["machine"], "processor": "Abacus"}, "policies": policies}
    page = render_page([here, there], BENCHMARKS)
    replay = page.partition("\n### search_replay")[2]
    assert "| asha | " in replay
    assert "| Syne Tune ASHA | " not in replay
    assert "| Syne Tune ASHA | " in render_page([there, here], BENCHMARKS).partition("\n### search_replay")[2]


def test_the_page_and_its_pictures_are_those_of_the_results_that_are_kept(tmp_path: Path) -> None:
    results = read_results(RESULTS)
    assert render_page(results, BENCHMARKS) == PAGE.read_text(encoding="utf-8")
    draw_pictures(results, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"search_replay.png"}


def test_a_benchmark_that_runs_again_replaces_its_own_lines_of_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    elsewhere = result(case="elsewhere").line()
    path.write_text(json.dumps({**elsewhere, "machine": {**elsewhere["machine"], "processor": "Abacus"}}) + "\n")
    for benchmark, case in (("cli_start", "old"), ("leaderboard", "kept"), ("cli_start", "new")):
        replace_results(path, benchmark, [json.dumps(result(benchmark=benchmark, case=case).line())])
    found = [(line["benchmark"], line["case"]) for line in read_results(path)]
    assert found == [("cli_start", "elsewhere"), ("leaderboard", "kept"), ("cli_start", "new")]


@pytest.mark.parametrize(("filters", "num_blocks"), [(4, 2), (8, 3)])
def test_plain_keras_trains_the_network_that_ours_is(filters: int, num_blocks: int, tensorflow_runtime: int) -> None:
    from benchmarks.sides.marsexp import config_of
    from benchmarks.sides.plain_keras import build_unet
    from marsseg.training.network import build_network

    ours = build_network(config_of(Settings("train", filters, num_blocks)), (64, 128))
    # Our head is a dense layer, theirs a 1x1 convolution.
    shapes, peer_shapes = (
        sorted(tuple(side for side in weight.shape if side != 1) for weight in model.weights)
        for model in (ours, build_unet(filters, num_blocks))
    )
    assert shapes == peer_shapes


@pytest.mark.parametrize("task", ["train", "first_step", "validate"])
def test_both_sides_answer(task: str) -> None:
    settings = Settings(task, filters=4, num_blocks=2, batch_size=4, num_images=8)
    with side("marsexp", settings) as ours, side("plain_keras", settings) as peer:
        assert min(float(np.max(ours.ask())), float(peer.ask())) > 0


def test_an_estimate_is_read_from_what_a_search_says() -> None:
    says = "search 'x': ...\nexpected to take about {}; full training of all would take about 45 min\n"
    assert read_estimate(says.format("17 min")) == 17
    assert read_estimate(says.format("2 h 05 min")) == 125
    assert read_estimate(says.format("30 s")) == 0.5
    with pytest.raises(ValueError, match="expected an estimate"):
        read_estimate("search 'x': ...")


def test_what_a_trial_costs_beyond_its_epochs(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.create_search("two", {"workers": 2})
    with ledger.drive("two") as writer:
        for trial, ends_s in ((0, (110, 130)), (1, (115,))):
            for epoch, end_s in enumerate(ends_s, start=1):
                writer.append_epoch(trial, epoch, {"epoch": epoch, "finished_ms": end_s * 1000, "epoch_s": 10})
    trials = [{"trial": 0, "epochs": 2}, {"trial": 1, "epochs": 1}, {"trial": 2, "epochs": 0}]
    # 41 s from 100 to 141, of which 15 are training: 26 s for two trials.
    assert seconds_beyond_epochs(ledger, {"search": "two", "trials": trials}, ended=141) == 13


def test_what_is_remembered_is_measured_once_a_subject_and_machine(tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    first = remembered(file, {"seed": 0}, lambda: {"score": 1.0})
    assert remembered(file, {"seed": 0}, lambda: {"score": 2.0}) == first
    assert remembered(file, {"seed": 1}, lambda: {"score": 2.0})["score"] == 2.0
    row = json.loads(file.read_text("utf-8").splitlines()[0])
    row["machine"]["processor"] = "Abacus"
    file.write_text(json.dumps(row) + "\n", "utf-8")
    assert recall(file, {"seed": 0}) == [row]
    assert remembered(file, {"seed": 0}, lambda: {"score": 3.0})["score"] == 3.0
    assert [each["score"] for each in recall(file, {"seed": 0})] == [1.0, 3.0]


def test_an_unknown_name_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cli_start", "clistart"]) == 2
    assert "expected some of throughput, first_step, " in capsys.readouterr().err
