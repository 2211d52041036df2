"""Finds search spaces and recipes: the user's own by path, the shipped ones by name."""

from pathlib import Path

from marsseg.errors import NotFoundError, nearest_name_hint

_PACKAGE = Path(__file__).parents[1]
_RECIPES = "experiments"


def find_space(name_or_path: str) -> Path:
    """The space file at a path, or the shipped one of that name.

    Raises:
        NotFoundError: If there is neither.
    """
    return _find(name_or_path, "search_spaces", "search space")


def find_recipes(name_or_path: str) -> list[Path]:
    """All recipes of a folder, the recipe file at a path, or the shipped one of that name.

    Where there is no folder `experiments`, the name means the shipped recipes.

    Raises:
        NotFoundError: If there is none.
    """
    folder = Path(name_or_path)
    if not folder.is_dir():
        is_shipped_folder = folder == Path(_RECIPES)
        return list(_shipped(_RECIPES).values()) if is_shipped_folder else [_find(name_or_path, _RECIPES, "recipe")]
    found = sorted(folder.glob("*.toml"))
    if not found:
        raise NotFoundError(f"{folder}: expected recipes (*.toml), found none")
    return found


def _find(name_or_path: str, folder_name: str, what: str) -> Path:
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = _shipped(folder_name)
    # Also by the path that they have in a checkout.
    if path.stem in shipped and path in (Path(path.stem), Path(folder_name, f"{path.stem}.toml")):
        return shipped[path.stem]
    hint = nearest_name_hint(path.stem, shipped)
    raise NotFoundError(f"{name_or_path}: expected a {what}, a file or one of {', '.join(sorted(shipped))}{hint}")


def _shipped(folder_name: str) -> dict[str, Path]:
    """The shipped files by name; a wheel has the folder inside the package, a checkout beside it."""
    folders = [_PACKAGE.parent / folder_name, _PACKAGE / "shipped" / folder_name]
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.toml"))}
