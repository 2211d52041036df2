"""The tracking store: opens it, writes runs and records where a run comes from. Knows nothing of training."""
