"""The objectives of a search: the score, and the sizes that may count besides."""

from collections.abc import Sequence

from marsseg.errors import UsageError, nearest_name_hint

SCORE = "val_mean_iou"
# Counted from the config before anything is trained; the lower the better.
SIZES = ("params", "flops")
OBJECTIVES = (SCORE, *SIZES)


def check_objectives(names: Sequence[str]) -> tuple[str, ...]:
    """The objectives in the order in which they are used, the score first.

    Raises:
        UsageError: If a name is unknown or given twice, or the score is not among them.
    """
    for name in names:
        if name not in OBJECTIVES:
            hint = nearest_name_hint(name, OBJECTIVES)
            raise UsageError(f"--objective: expected one of {', '.join(OBJECTIVES)}, found '{name}'{hint}")
        if names.count(name) > 1:
            raise UsageError(f"--objective: expected each once, found '{name}' {names.count(name)} times")
    if SCORE not in names:
        raise UsageError(f"--objective: expected {SCORE} among them, found {' and '.join(names)}")
    return tuple(sorted(names, key=OBJECTIVES.index))
