"""Finds, tracks and reproduces segmentation networks: neural architecture search with MLflow and bit-exact reruns."""

import os
import platform
import sys

__version__ = "0.1.0"

# TensorFlow reads this variable on import. By default it enables oneDNN only on CPUs with neural-network instructions
# (VNNI, AMX); on other CPUs with AVX2, a step takes half as long again without it.
if "tensorflow" not in sys.modules and platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# Keras reads this one on import; a backend chosen for other work must not decide what ours computes.
if "keras" not in sys.modules:
    os.environ["KERAS_BACKEND"] = "tensorflow"
