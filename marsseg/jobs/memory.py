"""The memory of a process that trains one network after the other."""

import ctypes
import gc
import os
import sys


def _mx():
    c = ctypes.CDLL(None)
    for f in os.environ.get("MX", "").split(","):
        match f:
            case "mmap0": print(f, c.mallopt(-4, 0))
            case "mmap32": print(f, c.mallopt(-3, 32 << 20))
            case "trim": print(f, c.mallopt(-1, 2**31 - 1))
            case "pad": print(f, c.mallopt(-2, 64 << 20))
            case "arena1": print(f, c.mallopt(-8, 1))
            case "inter1":
                import tensorflow as tf
                o = tf.config.threading.set_inter_op_parallelism_threads
                tf.config.threading.set_inter_op_parallelism_threads = lambda n: o(1)
