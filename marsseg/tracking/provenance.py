"""Where a run comes from: code, packages, interpreter and machine, as plain values by which runs can be compared."""

import hashlib
import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parents[1]
_CPU_INFO = Path("/proc/cpuinfo")
# Variables that may change what TensorFlow, oneDNN and CUDA compute. Named one by one: others hold secrets.
_VARIABLES = (
    *("TF_XLA_FLAGS", "XLA_FLAGS", "TF_DISABLE_MKL", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
    *("TF_DETERMINISTIC_OPS", "TF_CUDNN_DETERMINISTIC", "TF_CUDNN_USE_AUTOTUNE", "CUBLAS_WORKSPACE_CONFIG"),
    *("NVIDIA_TF32_OVERRIDE", "TF_ENABLE_CUBLAS_TENSOR_OP_MATH_FP32", "TF_ENABLE_CUDNN_TENSOR_OP_MATH_FP32"),
    *("ONEDNN_MAX_CPU_ISA", "ONEDNN_CPU_ISA_HINTS", "ONEDNN_DEFAULT_FPMATH_MODE"),
    *("DNNL_MAX_CPU_ISA", "DNNL_CPU_ISA_HINTS", "DNNL_DEFAULT_FPMATH_MODE"),
)


@cache
def code_version() -> str:
    """SHA-256 of the package's sources, as hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(_PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def checkout() -> dict[str, str]:
    """Commit and uncommitted changes, if the package itself runs from a git checkout.

    Returns:
        `commit` and `diff`; empty if the package was installed.
    """
    root = _PACKAGE.parent
    # A git repository that merely surrounds an installed package says nothing about it.
    if not (root / "pyproject.toml").is_file() or _git("ls-files", "--error-unmatch", "marsseg/__init__.py") is None:
        return {}
    commit = _git("rev-parse", "HEAD")
    return {"commit": commit.strip(), "diff": _git("diff", "HEAD") or ""} if commit else {}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=_PACKAGE.parent,
            capture_output=True,
            encoding="utf-8",
            # A changed file may be in another encoding.
            errors="replace",
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


@cache
def environment() -> dict[str, Any]:
    """Python, packages and CPU of this process.

    Returns:
        `python`, `platform`, `processor`, `cores`, `onednn`, `variables` (of the environment, that may change what is
        computed) and `packages` (version by name).
    """
    packages = {dist.metadata["Name"]: dist.version for dist in metadata.distributions() if dist.metadata["Name"]}
    return {
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
        "processor": _processor_name(),
        "cores": os.cpu_count() or 1,
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def _processor_name() -> str:
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
