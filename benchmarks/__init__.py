"""Benchmarks: one script a figure, each beside a peer that is measured in the same run."""
