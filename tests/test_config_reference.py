"""docs/config.md and the config that it is generated from."""

import re
import tomllib
from pathlib import Path

from marsseg.config import ExperimentConfig, load_recipe
from marsseg.config.reference import main, render_config
from marsseg.search.space_file import parse_space

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "config.md"


def test_page_is_what_the_config_says(tmp_path: Path) -> None:
    main(str(tmp_path / "config.md"))
    written = (tmp_path / "config.md").read_text(encoding="utf-8")
    assert written == PAGE.read_text(encoding="utf-8"), "docs/config.md is stale; run: make docs"


def test_every_field_is_there_once_with_its_default() -> None:
    page = render_config()
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| .* \| `(.+)` \|$", page, re.MULTILINE))
    defaults = {path: default for path, default in ExperimentConfig().flat().items() if path != "warmup"}
    for path, default in defaults.items():
        assert page.count(f"| `{path}` |") == 1
        shown = "none" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
        assert rows[path] == shown, path
    assert "| `warmup.optimizer` | as the group of that name |" in page
    assert "| `model.num_blocks` | integer ≥ 2, ≤ 6 | `4` |" in page


def test_its_recipe_and_its_search_space_can_be_read(tmp_path: Path) -> None:
    recipe, space = re.findall(r"```toml\n(.*?)```", render_config(), re.DOTALL)
    (tmp_path / "depth_4.toml").write_bytes((ROOT / "experiments" / "depth_4.toml").read_bytes())
    (tmp_path / "mine.toml").write_text(recipe, encoding="utf-8")
    config = load_recipe(tmp_path / "mine.toml")
    assert (config.model.se, config.loss.terms) == ("encoder", (("cross_entropy", 0.5), ("dice", 0.5)))
    parsed = parse_space(tomllib.loads(space), "mine")
    assert len(parsed.parameters) == 5
    assert (parsed.min_epochs, parsed.max_epochs, parsed.reduction_factor) == (1, 27, 3)
