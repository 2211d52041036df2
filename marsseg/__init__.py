"""Finds, tracks and proves segmentation networks: neural architecture search with MLflow and bit-exact reruns."""

import os
import platform
import sys

__version__ = "0.1.0"

# TensorFlow looks at this while it is imported, and by itself uses oneDNN only on processors with instructions for
# neural networks (VNNI, AMX). Any other with AVX2 takes half as long again for a step without it.
if "tensorflow" not in sys.modules and platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
