"""Benchmarks: one script per figure, each beside a peer that is measured in the same run."""
