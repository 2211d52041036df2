"""Which precision suits a machine, and why: a function of facts, with no look at the machine itself."""

from dataclasses import dataclass

_BFLOAT16_CPU_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})
# From these compute capabilities on, products of matrices in the type have units of their own: Ampere and Volta.
_BFLOAT16_GPU = (8, 0)
_FLOAT16_GPU = (7, 0)
_VECTOR_CPU_FLAGS = ("avx", "amx", "fma")


@dataclass(frozen=True)
class Gpu:
    """A GPU that TensorFlow can use.

    Args:
        name: As its driver calls it.
        compute_capability: NVIDIA's, major and minor; (0, 0) where there is none.
    """

    name: str
    compute_capability: tuple[int, int]


@dataclass(frozen=True)
class Machine:
    """What decides the precision.

    Args:
        cpu_flags: Instructions that the processor has, by the kernel's names.
        gpus: In TensorFlow's order.
    """

    cpu_flags: frozenset[str] = frozenset()
    gpus: tuple[Gpu, ...] = ()

    @property
    def bfloat16_flags(self) -> list[str]:
        """What makes bfloat16 fast on the processor; empty where nothing does."""
        return sorted(self.cpu_flags & _BFLOAT16_CPU_FLAGS)

    @property
    def vector_flags(self) -> list[str]:
        """What kernels are chosen by, and with them the last bits of a result."""
        return sorted(flag for flag in self.cpu_flags if flag.startswith(_VECTOR_CPU_FLAGS))


@dataclass(frozen=True)
class PrecisionChoice:
    """A precision and the reason for it, as the end of a sentence that begins with the precision."""

    precision: str
    reason: str

    def __str__(self) -> str:
        return f"{self.precision}: {self.reason}"


def choose_precision(machine: Machine) -> PrecisionChoice:
    """The lowest precision of which the machine has units of its own, bfloat16 before float16.

    Where there are GPUs they train, so they decide, and the least able of them for all: trials on different GPUs of one
    search have to be comparable.

    Args:
        machine: Where to train.

    Returns:
        `bfloat16`, `float16` or `float32`.
    """
    if machine.gpus:
        gpu = min(machine.gpus, key=lambda gpu: gpu.compute_capability)
        capability = ".".join(map(str, gpu.compute_capability))
        reason = f"the GPU, {gpu.name}, has compute capability {capability}"
        if gpu.compute_capability >= _BFLOAT16_GPU:
            return PrecisionChoice("bfloat16", reason)
        if gpu.compute_capability >= _FLOAT16_GPU:
            return PrecisionChoice("float16", f"{reason}, and bfloat16 needs {'.'.join(map(str, _BFLOAT16_GPU))}")
        return PrecisionChoice("float32", f"{reason}, and float16 needs {'.'.join(map(str, _FLOAT16_GPU))}")
    if machine.bfloat16_flags:
        return PrecisionChoice("bfloat16", f"the processor has {' and '.join(machine.bfloat16_flags)}")
    return PrecisionChoice("float32", "the processor has no bfloat16 of its own")


def explain_precision(precision: str, machine: Machine) -> PrecisionChoice:
    """Why a run trains in this precision: the machine's reason, or that it was set and what the machine's would be.

    Args:
        precision: The run's, `auto` resolved.
        machine: Where it trains.
    """
    choice = choose_precision(machine)
    if precision == choice.precision:
        return choice
    return PrecisionChoice(precision, f"as set; auto would be {choice.precision} here, since {choice.reason}")


def apply_precision(precision: str) -> None:
    """Sets the type that layers built from now on compute in; their weights stay float32."""
    import keras

    keras.config.set_dtype_policy(precision if precision == "float32" else f"mixed_{precision}")
