"""Finds, tracks and proves segmentation networks: neural architecture search with MLflow and bit-exact reruns."""

__version__ = "0.1.0"
