"""Memory of large tensors: from the C library, kept while a network trains, given back afterwards.

By default TensorFlow's oneDNN keeps regions of its own for large tensors, each twice as large as the one before, and
gives none back: a process would hold the memory of its largest network for good. The C library, which can be used
instead, gives the memory of every large tensor back at once, and each next tensor has to wait for fresh pages. So it is
told to keep freed memory, in one arena for all threads (arenas of single threads are too small for a step's tensors,
and are given back regardless), and told to release it between two training runs. Only glibc can do that; elsewhere
nothing happens.
"""

import ctypes
import os
import sys

# glibc's numbers of its settings, and the highest values that it accepts.
_M_TRIM_THRESHOLD, _HIGHEST_TRIM_THRESHOLD = -1, 2**31 - 1
_M_MMAP_THRESHOLD, _HIGHEST_MMAP_THRESHOLD = -3, 32 * 2**20
_M_ARENA_MAX = -8


def keep_freed_memory() -> None:
    """Lets large tensors reuse each other's memory; to be called before TensorFlow creates the first."""
    c_library = _c_library()
    if c_library is not None:
        os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
        c_library.mallopt(_M_MMAP_THRESHOLD, _HIGHEST_MMAP_THRESHOLD)
        c_library.mallopt(_M_TRIM_THRESHOLD, _HIGHEST_TRIM_THRESHOLD)
        c_library.mallopt(_M_ARENA_MAX, 1)


def give_memory_back() -> None:
    """Returns freed memory to the system."""
    c_library = _c_library()
    if c_library is not None:
        c_library.malloc_trim(0)


def _c_library() -> ctypes.CDLL | None:
    c_library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return c_library if hasattr(c_library, "malloc_trim") else None
