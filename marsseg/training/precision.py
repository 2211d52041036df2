"""The precision that suits a machine, and why: a function of given facts, without checking the machine itself."""

from dataclasses import dataclass

_BFLOAT16_CPU_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})
# From these compute capabilities on, the GPU has tensor cores for the type: Ampere and Volta.
_BFLOAT16_GPU = (8, 0)
_FLOAT16_GPU = (7, 0)
# TensorFlow convolves in these types with oneDNN if the CPU has these flags. AVX-NE-CONVERT would do as well, but Linux
# does not report it.
_CONVOLVING_CPU_FLAGS = {"bfloat16": "avx512f", "float16": "avx512_fp16"}
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
    """The facts that decide the precision.

    Args:
        cpu_flags: Instruction sets of the CPU, by the kernel's names.
        gpus: In TensorFlow's order.
    """

    cpu_flags: frozenset[str] = frozenset()
    gpus: tuple[Gpu, ...] = ()

    @property
    def bfloat16_flags(self) -> list[str]:
        """The flags that make bfloat16 fast on the CPU; empty where there are none."""
        return sorted(self.cpu_flags & _BFLOAT16_CPU_FLAGS)

    @property
    def vector_flags(self) -> list[str]:
        """The flags that kernels are chosen by, and with them the last bits of a result."""
        return sorted(flag for flag in self.cpu_flags if flag.startswith(_VECTOR_CPU_FLAGS))

    def convolves_in(self, precision: str) -> bool:
        """Whether TensorFlow convolves in this precision on a GPU or with oneDNN."""
        return precision == "float32" or bool(self.gpus) or _CONVOLVING_CPU_FLAGS[precision] in self.cpu_flags


@dataclass(frozen=True)
class PrecisionChoice:
    """A precision and the reason for it, as the end of a sentence that begins with the precision."""

    precision: str
    reason: str

    def __str__(self) -> str:
        return f"{self.precision}: {self.reason}"


def choose_precision(machine: Machine) -> PrecisionChoice:
    """The lowest precision that the machine has units of its own for, bfloat16 before float16.

    Where there are GPUs they train, so they decide, and the least capable of them decides for all: trials on different
    GPUs of one search have to be comparable.

    Args:
        machine: The machine to train on.

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
        return PrecisionChoice("bfloat16", f"the CPU has {' and '.join(machine.bfloat16_flags)}")
    return PrecisionChoice("float32", "the CPU has no native bfloat16 instructions")


def explain_precision(precision: str, machine: Machine) -> PrecisionChoice:
    """Why a run trains in this precision: the machine's reason, or that it was set and what `auto` would be.

    Args:
        precision: The run's precision, `auto` resolved.
        machine: The machine that it trains on.
    """
    choice = choose_precision(machine)
    if precision == choice.precision:
        return choice
    return PrecisionChoice(precision, f"as set; auto would be {choice.precision} here, since {choice.reason}")


def apply_precision(precision: str, machine: Machine) -> None:
    """Sets the type that layers built from now on compute in; their weights stay float32.

    Args:
        precision: `float32`, `bfloat16` or `float16`.
        machine: Where it does not convolve in this precision, layers compute in float32, from operands rounded to it.
    """
    import keras

    from marsseg.models.half_precision import UpcastPolicy

    policy = keras.DTypePolicy if machine.convolves_in(precision) else UpcastPolicy
    keras.config.set_dtype_policy(policy(precision if precision == "float32" else f"mixed_{precision}"))
