"""Wrong input: one clear line, status 2 if the command line is wrong, otherwise 1, no traceback, and nothing done."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from marsseg.cli.app import main
from marsseg.jobs.settings import StudySettings
from marsseg.search.ledger import Ledger
from tests.conftest import TINY_SPACE, write_tiles
from tests.jobs.toy_study import build_settings


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command in a folder without data, and returns its only line of stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MARSEXP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MARSEXP_DATA", raising=False)
    (tmp_path / "space.toml").write_text(TINY_SPACE, encoding="utf-8")

    def refuse(*arguments: str, status: int = 2) -> str:
        monkeypatch.setattr("sys.argv", ["marsexp", *arguments])
        with pytest.raises(SystemExit) as exit_info:
            main()
        captured = capsys.readouterr()
        assert exit_info.value.code == status
        assert captured.out == ""
        assert captured.err.startswith("marsexp: ")
        assert captured.err.count("\n") == 1
        assert "unexpected" not in captured.err
        assert not (tmp_path / "home" / "checkpoints").exists()
        return captured.err

    return refuse


def pairs(**changes: object) -> np.ndarray:
    tiles = np.zeros((12, 2, 32, 64), np.float64)
    tiles[:, 1, :, 32:] = 1
    for index, value in changes.items():
        tiles[2, {"image": 0, "mask": 1}[index], 3, 4] = value
    return tiles


BAD_FILES = {
    "label 7": (pairs(mask=7), "7"),
    "label 1.5": (pairs(mask=1.5), "1.5"),
    "label below 0": (pairs(mask=-1), "-1"),
    "NaN pixel": (pairs(image=np.nan), "2"),
    "no images": (pairs()[:0], "image"),
    "one channel missing": (pairs()[:, :1], "(12, 1, 32, 64)"),
    "no channels": (pairs()[:, 0], "(12, 32, 64)"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_tiles(run: Callable[..., str], tmp_path: Path, name: str) -> None:
    array, expected = BAD_FILES[name]
    np.savez(tmp_path / "bad.npz", training_set=array)
    for command in (("search", "--budget", "2", "--space", "space.toml"), ("data", "inspect")):
        assert expected in run(*command, "--data", "bad.npz", status=1)


def test_object_array_is_never_unpickled(run: Callable[..., str], tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)  # type: ignore[return-value]  # any callable will do

    np.savez(tmp_path / "bad.npz", training_set=np.array([Trap(), None], dtype=object))
    assert "object" in run("data", "inspect", "--data", "bad.npz", status=1)
    assert not (tmp_path / "sprung").exists()


def test_text_that_no_store_can_hold_is_refused(run: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("seed = 1", encoding="utf-8")
    for option, text in (("--note", "caf\udce9"), ("--author", "\udce9"), ("--tag", "a=\udce9"), ("--data", "\udce9")):
        assert "expected UTF-8, found '" in run("train", "r.toml", option, text)


def test_a_file_for_pictures_is_refused_before_the_data_are_read(run: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "expected a folder" in run("data", "inspect", "--data", "missing.npz", "--pictures", "file")


def test_torn_and_missing_files(run: Callable[..., str], tmp_path: Path) -> None:
    whole = write_tiles(tmp_path / "whole.npz", num_images=12).read_bytes()
    (tmp_path / "torn.npz").write_bytes(whole[: len(whole) // 2])
    assert "torn.npz" in run("search", "--budget", "2", "--space", "space.toml", "--data", "torn.npz", status=1)
    assert "missing.npz" in run("search", "--budget", "2", "--space", "space.toml", "--data", "missing.npz", status=1)
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    assert "training_set" in run("data", "inspect", "--data", "other.npz", status=1)


BAD_SPACES = {
    "unknown key": ('[fixde]\n"seed" = 1\n', "did you mean 'fixed'"),
    "unknown field": ('[parameters."optimizer.learning_rat"]\nkind = "bool"\n', "did you mean 'learning_rate'"),
    "broken TOML": ("[parameters\n", "expected TOML"),
}


@pytest.mark.parametrize("name", BAD_SPACES)
def test_bad_spaces(run: Callable[..., str], tmp_path: Path, name: str) -> None:
    text, expected = BAD_SPACES[name]
    (tmp_path / "bad.toml").write_text(text, encoding="utf-8")
    assert expected in run("search", "--budget", "2", "--space", "bad.toml", "--data", "synthetic", status=1)


SEVERAL = ("--objective", "params", "--objective", "val_mean_iou")
WARM_SPACE = """
[fixed]
"warmup.epochs" = 10

[parameters."augmentation.flips"]
kind = "bool"
"""
RECIPE = ("train", "depth_4", "--data", "synthetic")
BAD_OPTIONS = {
    "budget of 0": (("search", "--budget", "0"), "--budget"),
    "no budget": (("search",), "--budget"),
    "budget in words": (("search", "--budget", "many"), "40, 500epochs, 30min or 2h; found 'many'"),
    "budget below one full training": (("search", "--budget", "9epochs", "--space", "cpu"), "27 epochs, found 9epochs"),
    "curves over a file": (("search", "--budget", "2", "--space", "smoke", "--record", "space.toml"), "space.toml"),
    "seeds of nothing": (("search", "--budget", "2", "--seeds", "5"), "--confirm 3 --seeds 5"),
    "seeds beyond the last": (
        (*RECIPE, "--set", "seed=2147483647", "--seeds", "2"),
        "'depth_4' with --seeds 2: seed: input should be less than 2147483648, found 2147483648",
    ),
    "unknown engine": (("search", "--budget", "2", "--engine", "optima"), "did you mean 'optuna'"),
    "unknown sampler": (("search", "--budget", "2", "--sampler", "cma"), "did you mean 'cmaes'"),
    "other engine's sampler": (("search", "--budget", "2", "--engine", "keras-tuner", "--sampler", "gp"), "bayesian"),
    "unknown scheduler": (("search", "--budget", "2", "--scheduler", "ash"), "did you mean 'asha'"),
    "unknown objective": (("search", "--budget", "2", "--objective", "parms"), "did you mean 'params'"),
    "objectives without the score": (("search", "--budget", "2", "--objective", "params"), "expected val_mean_iou"),
    "objective given twice": (("search", "--budget", "2", *("--objective", "val_mean_iou") * 2), "2 times"),
    "scheduler of one objective": (
        ("search", "--budget", "2", *SEVERAL, "--scheduler", "freeze-thaw"),
        "--scheduler freeze-thaw supports one objective only; these support several: asha, hyperband, topk, none",
    ),
    "sampler of one objective": (
        ("search", "--budget", "2", *SEVERAL, "--sampler", "cmaes"),
        "--sampler cmaes supports one objective only; these support several: tpe, gp, nsga2, random",
    ),
    "engine's default sampler of one objective": (
        ("search", "--budget", "2", *SEVERAL, "--engine", "keras-tuner"),
        "--sampler bayesian supports one objective only; these support several: random",
    ),
    "objectives beside a search to resume": (("search", "--resume", "tiny", *SEVERAL), "remove --objective"),
    "name that leaves the folder": (("search", "--budget", "2", "--name", "../x"), "'../x'"),
    "name of two lines": (("search", "--budget", "2", "--name", "a\nb"), r"'a\nb'"),
    "unknown field to set": (("search", "--budget", "2", "--set", "model.blocks=3"), "did you mean 'num_blocks'"),
    "value that is not allowed": (("search", "--budget", "2", "--set", "model.num_blocks=9"), "model.num_blocks"),
    "fixed value that needs more epochs": (
        ("search", "--budget", "2", "--space", "warm.toml", "--max-epochs", "5", "--data", "synthetic"),
        "warmup.epochs",
    ),
    "set without value": (("search", "--budget", "2", "--set", "seed"), "path=value"),
    "tiles in another format": (("data", "synth", "--out", "tiles.txt"), "ends in .npz"),
    "more outliers than tiles": (("data", "synth", "--out", "t.npz", "--images", "5", "--outliers", "9"), "at most 5"),
    "tag without value": (("search", "--budget", "2", "--tag", "x"), "key=value"),
    "no recipe": (("train",), "recipe"),
    "more GPUs than there are": (
        (*RECIPE, "--gpus", "1"),
        "--gpus 1: expected at most as many GPUs as there are, found none that TensorFlow can use",
    ),
    "more GPUs set than there are": (
        (*RECIPE, "--set", "training.gpus=2"),
        "'depth_4' has training.gpus = 2: expected at most as many",
    ),
    "GPUs given twice": (
        (*RECIPE, "--gpus", "2", "--set", "training.gpus=2"),
        "use --gpus instead of --set training.gpus",
    ),
    "several GPUs for a trial": (
        ("search", "--budget", "2", "--space", "smoke", "--data", "synthetic", "--set", "training.gpus=2"),
        "a search gives each trial one GPU",
    ),
    "unknown command": (("serach",), "'search'"),
    "unknown option": (("search", "--bugdet", "2"), "--bugdet"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_options(run: Callable[..., str], tmp_path: Path, name: str) -> None:
    (tmp_path / "warm.toml").write_text(WARM_SPACE, encoding="utf-8")
    arguments, expected = BAD_OPTIONS[name]
    assert expected in run(*arguments)
    assert not (tmp_path / "home" / "ledger.db").exists()


NOT_THERE = {
    "unknown space": (("search", "--budget", "2", "--space", "smok"), "did you mean 'smoke'"),
    "unknown search": (("leaderboard", "nothing"), "nothing"),
    "search to resume that does not exist": (("search", "--resume", "nothing"), "nothing"),
    "recipe that does not exist": (("train", "final_une"), "did you mean 'final_unet'"),
    "no best run yet": (("reproduce", "best"), "no search yet"),
    "no run ID": (("reproduce", "../../etc"), "run ID"),
    "no store yet": (("show", "0123456789abcdef"), "there is no tracking store at"),
    "depth that does not fit": (
        ("search", "--budget", "2", "--data", "odd.npz", "--space", "space.toml", "--set", "model.num_blocks=6"),
        "divisible by 64",
    ),
}


@pytest.mark.parametrize("name", NOT_THERE)
def test_what_is_not_there_or_does_not_fit(run: Callable[..., str], tmp_path: Path, name: str) -> None:
    arguments, expected = NOT_THERE[name]
    write_tiles(tmp_path / "odd.npz", num_images=12)
    assert expected in run(*arguments, status=1)
    assert not (tmp_path / "home" / "ledger.db").exists()


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "htp://127.0.0.1:9"])
def test_a_server_that_is_away_or_none_takes_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], uri: str
) -> None:
    write_tiles(tmp_path / "tiles.npz", num_images=12)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MARSEXP_HOME", "home")
    search = ("search", "--budget", "2", "--space", "smoke", "--data", "tiles.npz", "--name", "s")
    monkeypatch.setattr("sys.argv", ["marsexp", *search, "--tracking-uri", uri])
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert exit_info.value.code == 1
    plan, refusal = capsys.readouterr().err.splitlines()
    assert plan.startswith("search 's': 2 configurations")
    assert refusal.startswith(f"marsexp: {uri}: cannot be opened as a tracking store")
    assert Ledger(tmp_path / "home" / "ledger.db").names() == []


def test_a_traceback_changes_no_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MARSEXP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.argv", ["marsexp", "leaderboard", "nothing", "--debug"])
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert exit_info.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1].startswith("marsexp: there is no search 'nothing'; none has been started in ")


@pytest.mark.parametrize(("sampler", "package"), [("gp", "torch"), ("cmaes", "cmaes")])
def test_a_sampler_without_its_package(
    run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str, package: str
) -> None:
    # This entry makes Python treat the package as not importable.
    monkeypatch.setitem(sys.modules, package, None)
    message = run("search", "--budget", "2", "--space", "space.toml", "--sampler", sampler, "--name", "mine")
    assert f"expected the package {package}, found none" in message
    assert f"pip install 'marsexp[{sampler}]'" in message
    assert not (tmp_path / "home" / "ledger.db").exists()


def test_a_search_is_not_gone_on_with_where_its_sampler_lacks_its_package(
    run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path / "home" / "ledger.db")
    ledger.create_search("study", build_settings(sampler="cmaes").to_dict())
    monkeypatch.setitem(sys.modules, "cmaes", None)
    assert "pip install 'marsexp[cmaes]'" in run("search", "--resume", "study", "--budget", "20")
    assert StudySettings.from_dict(ledger.settings("study")).budget == build_settings().budget
