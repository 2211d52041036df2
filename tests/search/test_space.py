"""Search spaces: what is accepted, what is refused and with which message."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marsseg.config import ExperimentConfig
from marsseg.errors import ConfigError, NotFoundError, SpaceError
from marsseg.search.space import (
    BoolParameter,
    ChoiceParameter,
    FloatParameter,
    IntParameter,
    Space,
)
from marsseg.search.space_file import load_space, parse_space

SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.toml"))

FLIPS = '[parameters."augmentation.flips"]\nkind = "bool"\n'
OPTIMIZER = '[parameters."optimizer.name"]\nkind = "choice"\noptions = ["adam", "adamw"]\n'
BLOCKS = '[parameters."model.num_blocks"]\nkind = "int"\nlow = 3\nhigh = 5\n'


def parse(text: str) -> Space:
    return parse_space(tomllib.loads(text), "mine")


def batch_size(arguments: str) -> str:
    return f'[parameters."training.batch_size"]\n{arguments}\n'


def weight_decay(when: str) -> str:
    return f'[parameters."optimizer.weight_decay"]\nkind = "choice"\noptions = [1e-4, 1e-3]\nwhen = {when}\n'


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_space_loads_under_its_file_name(path: Path) -> None:
    space = load_space(path)
    assert space.name == path.stem
    assert 1 <= space.min_epochs <= space.max_epochs
    assert parse_space(space.document, path.stem) == space


def test_shipped_spaces_are_found() -> None:
    assert {"cpu", "smoke", "unet"} <= {path.stem for path in SHIPPED}


def test_every_kind_is_read_with_its_python_types() -> None:
    space = parse(
        "[search]\nmin_epochs = 2\nmax_epochs = 8\nreduction_factor = 2\n"
        '[fixed]\n"model.max_filters" = 64\n'
        + batch_size('kind = "int"\nlow = 8\nhigh = 32\nstep = 8')
        + '[parameters."model.base_filters"]\nkind = "int"\nlow = 4\nhigh = 16\nlog = true\n'
        + '[parameters."optimizer.learning_rate"]\nkind = "float"\nlow = 1e-4\nhigh = 1\nlog = true\n'
        + '[parameters."model.dropout"]\nkind = "float"\nlow = 0\nhigh = 0.5\nstep = 0.25\n'
        + FLIPS
        + OPTIMIZER
        + weight_decay('{ "optimizer.name" = ["adamw"] }')
    )
    assert (space.min_epochs, space.max_epochs, space.reduction_factor) == (2, 8, 2)
    assert space.fixed == {"model.max_filters": 64}
    assert [parameter.domain for parameter in space.parameters] == [
        IntParameter(8, 32, step=8),
        IntParameter(4, 16, log=True),
        FloatParameter(1e-4, 1.0, log=True),
        FloatParameter(0.0, 0.5, step=0.25),
        BoolParameter(),
        ChoiceParameter(("adam", "adamw")),
        ChoiceParameter((1e-4, 1e-3)),
    ]
    learning_rate, dropout = space.by_path["optimizer.learning_rate"].domain, space.by_path["model.dropout"].domain
    assert [type(value) for value in (*learning_rate.bounds(), *dropout.bounds())] == [float] * 4
    assert space.by_path["optimizer.weight_decay"].when == {"optimizer.name": ("adamw",)}


REFUSED: dict[str, tuple[str, list[str]]] = {
    "unknown top-level key": ("paramters = 1\n" + FLIPS, ["unknown key 'paramters'", "'parameters'?"]),
    "unknown search key": ("[search]\nmin_epoch = 1\n" + FLIPS, ["[search]", "'min_epoch'", "'min_epochs'?"]),
    "search no table": ("search = 3\n" + FLIPS, ["[search]", "expected a table", "3"]),
    "fixed no table": ("fixed = 3\n" + FLIPS, ["[fixed]", "expected a table", "3"]),
    "epochs as text": ('[search]\nmax_epochs = "9"\n' + FLIPS, ["max_epochs", "expected an integer", "'9'"]),
    "epochs as bool": ("[search]\nmin_epochs = true\n" + FLIPS, ["min_epochs", "True"]),
    "no epochs": ("[search]\nmin_epochs = 0\n" + FLIPS, ["min_epochs", "found 0"]),
    "factor that keeps all": ("[search]\nreduction_factor = 1\n" + FLIPS, ["reduction_factor", "found 1"]),
    "min above max": ("[search]\nmin_epochs = 9\nmax_epochs = 4\n" + FLIPS, ["min_epochs = 9", "max_epochs = 4"]),
    "default min above max": ("[search]\nmax_epochs = 2\n" + FLIPS, ["min_epochs = 3", "max_epochs = 2"]),
    "no parameters": ("[parameters]\n", ["expected at least one", "found none"]),
    "parameters no table": ("parameters = []\n", ["expected at least one", "found none"]),
    "parameter no table": ('[parameters]\n"augmentation.flips" = 1\n', ["'augmentation.flips'", "kind", "found 1"]),
    "unquoted path": ('[parameters.augmentation.flips]\nkind = "bool"\n', ["'augmentation'", "expected kind"]),
    "kind missing": (batch_size("low = 1"), ["expected kind", "int, float, choice, bool", "None"]),
    "wrong kind": (batch_size('kind = "choise"'), ["'choise'", "did you mean 'choice'?"]),
    "kind as list": (batch_size('kind = ["int"]'), ["expected kind", "['int']"]),
    "unknown argument": (batch_size('kind = "int"\nlow = 1\nhihg = 4'), ["unknown key 'hihg'", "'high'?"]),
    "argument of another kind": (batch_size('kind = "choice"\noptions = [8]\nlow = 1'), ["unknown key 'low'"]),
    "low missing": (batch_size('kind = "int"\nhigh = 4'), ["expected low", "found none"]),
    "fraction for int": (batch_size('kind = "int"\nlow = 1.5\nhigh = 4'), ["expected low as int", "1.5"]),
    "bool for int": (batch_size('kind = "int"\nlow = true\nhigh = 4'), ["expected low as int", "True"]),
    "infinite": (batch_size('kind = "float"\nlow = 1\nhigh = inf'), ["expected high as float", "inf"]),
    "step and log": (batch_size('kind = "int"\nlow = 1\nhigh = 9\nstep = 2\nlog = true'), ["step or log", "both"]),
    "log as text": (batch_size('kind = "int"\nlow = 1\nhigh = 9\nlog = "yes"'), ["log = true or false", "'yes'"]),
    "low equals high": (batch_size('kind = "int"\nlow = 4\nhigh = 4'), ["low must be below high", "4 and 4"]),
    "low above high": (batch_size('kind = "int"\nlow = 9\nhigh = 4'), ["low must be below high", "9 and 4"]),
    "step of nothing": (batch_size('kind = "int"\nlow = 1\nhigh = 4\nstep = 0'), ["step", "above 0"]),
    "log from 0": ('[parameters."model.dropout"]\nkind = "float"\nlow = 0\nhigh = 0.5\nlog = true', ["above 0"]),
    "no options": (batch_size('kind = "choice"\noptions = []'), ["at least one value", "[]"]),
    "options missing": (batch_size('kind = "choice"'), ["at least one value", "None"]),
    "mixed options": (batch_size('kind = "choice"\noptions = [8, 16.0]'), ["one type", "[8, 16.0]"]),
    "bool among ints": (batch_size('kind = "choice"\noptions = [1, true]'), ["one type", "True"]),
    "option twice": (batch_size('kind = "choice"\noptions = [8, 8]'), ["distinct", "[8, 8]"]),
    "option as list": (batch_size('kind = "choice"\noptions = [[8]]'), ["plain values", "[[8]]"]),
    "when no table": (OPTIMIZER + weight_decay('["adamw"]'), ["expected when = { parent = [values] }"]),
    "when no list": (OPTIMIZER + weight_decay('{ "optimizer.name" = "adamw" }'), ["when 'optimizer.name'", "a list"]),
    "unknown parent": (OPTIMIZER + weight_decay('{ "optimizer.nam" = ["adamw"] }'), ["unknown parent", "name'?"]),
    "own parent": (OPTIMIZER + weight_decay('{ "optimizer.weight_decay" = [1e-4] }'), ["must come before its child"]),
    "child first": (weight_decay('{ "optimizer.name" = ["adamw"] }') + OPTIMIZER, ["must come before its child"]),
    "impossible when": (OPTIMIZER + weight_decay('{ "optimizer.name" = ["sgd"] }'), ["['sgd']", "'adam', 'adamw'"]),
    "unknown field": ('[parameters."model.num_block"]\nkind = "bool"', ["unknown field", "'num_blocks'?"]),
    "unknown fixed field": ('[fixed]\n"model.bas_filters" = 8\n' + FLIPS, ["[fixed]", "'base_filters'?"]),
    "wrong fixed value": ('[fixed]\n"model.num_blocks" = 7\n' + FLIPS, ["[fixed]", "model.num_blocks", "7"]),
    "value the config refuses": (batch_size('kind = "int"\nlow = 0\nhigh = 4'), ["'training.batch_size' = 0"]),
    "upper bound the config refuses": (BLOCKS.replace("5", "7"), ["'model.num_blocks' = 7"]),
    "option the config refuses": (OPTIMIZER.replace("adamw", "lion"), ["'optimizer.name' = 'lion'"]),
    "fixed value that goes only with a parameter's": (
        '[fixed]\n"optimizer.weight_decay" = 1e-4\n[parameters."optimizer.name"]\nkind = "choice"\noptions = ["adamw"]',
        ["[fixed]: optimizer", "found 'adam'", "must itself be a parameter with one option"],
    ),
    "value the config refuses with what is fixed": (
        '[fixed]\n"model.skip_connections" = false\n[parameters."model.se"]\nkind = "choice"\noptions = ["skip"]',
        ["'model.se' = 'skip'", "needs skip_connections = true"],
    ),
    "child without its condition": (
        OPTIMIZER + weight_decay('{ "optimizer.name" = ["adam"] }'),
        ["weight_decay needs name = 'adamw'"],
    ),
    "a number beyond all floats": (batch_size(f'kind = "int"\nlow = 8\nhigh = {10**400}'), ["expected high as int"]),
    "a part of a field": (
        '[parameters."loss.terms.dice"]\nkind = "float"\nlow = 0.5\nhigh = 2.0\n',
        ["'loss.terms.dice': expected a field of the config, found none; it is a part of 'loss.terms'"],
    ),
    "fixed, too": ('[fixed]\n"augmentation.flips" = true\n' + FLIPS, ["is also in [fixed]"]),
}


@pytest.mark.parametrize(("text", "fragments"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_space_is_refused_in_one_line_that_names_it(text: str, fragments: list[str]) -> None:
    with pytest.raises(SpaceError) as caught:
        parse(text)
    message = str(caught.value)
    assert message.startswith("space mine")
    assert "\n" not in message
    assert all(fragment in message for fragment in fragments), message


UNCHECKED = {
    "when of an int parent out of its range": BLOCKS
    + '[parameters."model.base_filters"]\nkind = "choice"\noptions = [8, 16]\nwhen = { "model.num_blocks" = [6] }',
    "step that misses high": BLOCKS + "step = 3\n",
    "epochs beyond the last rung": '[parameters."training.max_epochs"]\nkind = "choice"\noptions = [50]',
    "fixed, too, as a table": "[fixed]\naugmentation.flips = true\n" + FLIPS,
}


@pytest.mark.parametrize("text", UNCHECKED.values(), ids=UNCHECKED.keys())
def test_a_space_that_cannot_mean_what_it_says_is_refused(text: str) -> None:
    with pytest.raises(SpaceError):
        parse(text)


def test_a_file_that_is_absent_or_no_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    with pytest.raises(NotFoundError, match=r"broken\.toml: expected a search space"):
        load_space(path)
    path.write_text("[parameters\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broken\.toml: expected TOML"):
        load_space(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"broken\.toml: expected TOML"):
        load_space(path)


def test_conditions_nest_and_a_child_of_an_inactive_parent_is_inactive() -> None:
    space = parse(
        FLIPS
        + '[parameters."optimizer.name"]\nkind = "choice"\noptions = ["adam", "adamw"]\n'
        + 'when = { "augmentation.flips" = [true] }\n'
        + weight_decay('{ "optimizer.name" = ["adamw"] }')
    )
    child = space.by_path["optimizer.weight_decay"]
    assert child.is_active({"augmentation.flips": True, "optimizer.name": "adamw"})
    assert not child.is_active({"augmentation.flips": True, "optimizer.name": "adam"})
    assert not child.is_active({"augmentation.flips": False})


def test_pinning_a_child_narrows_its_parents_as_far_up_as_they_go() -> None:
    space = parse(
        OPTIMIZER
        + weight_decay('{ "optimizer.name" = ["adamw"] }')
        + '[parameters."model.dropout"]\nkind = "float"\nlow = 0.0\nhigh = 0.5\n'
        + 'when = { "optimizer.weight_decay" = [1e-4] }\n'
    )
    pinned = space.pinned({"model.dropout": 0.1})
    assert pinned.by_path["optimizer.weight_decay"].domain == ChoiceParameter((1e-4,))
    assert pinned.by_path["optimizer.name"].domain == ChoiceParameter(("adamw",))
    assert pinned.by_path["model.dropout"].domain == ChoiceParameter((0.1,))


def test_pinned_values_that_exclude_each_other_are_refused() -> None:
    space = parse(OPTIMIZER + weight_decay('{ "optimizer.name" = ["adamw"] }'))
    with pytest.raises(SpaceError, match=r"'optimizer.weight_decay' has an effect only where .*adamw.*, found 'adam'"):
        space.pinned({"optimizer.weight_decay": 1e-4, "optimizer.name": "adam"})


def test_laptops_get_the_choices_of_the_whole_space() -> None:
    unet, cpu = (load_space(SHIPPED[0].with_name(f"{name}.toml")) for name in ("unet", "cpu"))
    sizes = {"model.base_filters", "training.batch_size"}
    assert [(p.path, p.when) for p in cpu.parameters] == [(p.path, p.when) for p in unet.parameters]
    assert {p.path for p in unet.parameters if cpu.by_path[p.path] != p} == sizes
    for path in sizes:
        assert max(cpu.by_path[path].domain.bounds()) < max(unet.by_path[path].domain.bounds())


def test_a_pinned_value_is_written_as_among_the_options_so_that_conditions_hold() -> None:
    space = parse(
        '[parameters."loss.terms"]\nkind = "choice"\noptions = ["focal+dice", "dice"]\n'
        '[parameters."loss.focal_gamma"]\nkind = "choice"\noptions = [0.5, 1.0]\n'
        'when = { "loss.terms" = ["focal+dice"] }\n'
    )
    pins = space.pins_among({"loss.terms": "dice+focal", "loss.focal_gamma": 3, "seed": 1})
    assert pins == {"loss.terms": "focal+dice", "loss.focal_gamma": 3.0}
    pinned = space.pinned(pins)
    assert pinned.by_path["loss.focal_gamma"].is_active({"loss.terms": pins["loss.terms"]})


def test_an_option_that_few_epochs_forbid_is_no_reason_to_refuse_another() -> None:
    space = replace(load_space(SHIPPED[0].with_name("report.toml")), max_epochs=5)
    assert space.pins_among({"warmup.epochs": 1}) == {"warmup.epochs": 1}
    with pytest.raises(SpaceError, match=r"must be below training\.max_epochs: 7 and 5"):
        space.pins_among({"warmup.epochs": 7})


def test_pinned_leaves_one_value_and_ignores_other_paths() -> None:
    space = load_space(SHIPPED[0])
    pinned = space.pinned({"model.num_blocks": 4, "training.threads": 1})
    assert pinned.by_path["model.num_blocks"].domain == ChoiceParameter((4,))
    assert [p.path for p in pinned.parameters] == [p.path for p in space.parameters]
    assert [p for p in pinned.parameters if p.path != "model.num_blocks"] == [
        p for p in space.parameters if p.path != "model.num_blocks"
    ]
    assert space.by_path["model.num_blocks"].domain == IntParameter(3, 6)


@settings(deadline=None, max_examples=150)
@given(
    low=st.integers(-2, 40),
    high=st.integers(-2, 40),
    step=st.none() | st.integers(-1, 5),
    log=st.none() | st.booleans(),
)
def test_a_range_is_taken_exactly_where_it_makes_sense(low: int, high: int, step: int | None, log: bool | None) -> None:
    entry: dict[str, Any] = {"kind": "int", "low": low, "high": high, "step": step, "log": log}
    document = {"parameters": {"training.batch_size": {k: v for k, v in entry.items() if v is not None}}}
    hits_high = step is None or (step > 0 and (high - low) % step == 0)
    makes_sense = 1 <= low < high and hits_high and not (log and step is not None)
    try:
        domain = parse_space(document, "mine").parameters[0].domain
    except SpaceError:
        assert not makes_sense
    else:
        assert makes_sense
        assert domain == IntParameter(low, high, 1 if step is None else step, bool(log))
        for value in domain.bounds():
            assert ExperimentConfig().with_values({"training.batch_size": value}).training.batch_size == value
