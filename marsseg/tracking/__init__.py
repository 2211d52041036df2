"""The tracking store: opening it, writing runs, where a run comes from. Knows no training."""
