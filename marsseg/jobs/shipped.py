"""Finds search spaces and recipes: the user's own by path, the shipped ones by name."""

from pathlib import Path

from marsseg.errors import NotFoundError, nearest_name_hint

_PACKAGE = Path(__file__).parents[1]


def find_space(name_or_path: str) -> Path:
    """The space file at a path, or the shipped one of that name.

    Raises:
        NotFoundError: If there is neither.
    """
    return _find(name_or_path, "search_spaces", "search space")


def find_recipe(name_or_path: str) -> Path:
    """The recipe file at a path, or the shipped one of that name.

    Raises:
        NotFoundError: If there is neither.
    """
    return _find(name_or_path, "experiments", "recipe")


def _find(name_or_path: str, folder_name: str, what: str) -> Path:
    path = Path(name_or_path)
    if path.is_file():
        return path
    # A wheel carries the folder inside the package, a checkout beside it.
    folders = [_PACKAGE / "shipped" / folder_name, _PACKAGE.parent / folder_name]
    shipped = {file.stem: file for folder in reversed(folders) for file in sorted(folder.glob("*.toml"))}
    if path.name == name_or_path and name_or_path in shipped:
        return shipped[name_or_path]
    hint = nearest_name_hint(path.stem, shipped)
    raise NotFoundError(f"{name_or_path}: expected a {what}, a file or one of {', '.join(sorted(shipped))}{hint}")
