"""Precision chosen from given facts, with reasons; no machine is inspected."""

import keras
import pytest

from marsseg.models.half_precision import is_upcast
from marsseg.training.precision import (
    Gpu,
    Machine,
    PrecisionChoice,
    apply_precision,
    choose_precision,
    explain_precision,
)

AMPERE, TURING = Gpu("NVIDIA A30", (8, 0)), Gpu("Tesla T4", (7, 5))
VOLTA, PASCAL = Gpu("Tesla V100", (7, 0)), Gpu("GeForce GTX 1080", (6, 1))
AMX = frozenset({"fpu", "avx512f", "amx_bf16", "avx512_bf16"})


@pytest.mark.parametrize(
    ("machine", "precision", "reason"),
    [
        (Machine(AMX), "bfloat16", "the CPU has amx_bf16 and avx512_bf16"),
        (Machine(frozenset({"amx_bf16"})), "bfloat16", "the CPU has amx_bf16"),
        (Machine(frozenset({"avx512_bf16"})), "bfloat16", "the CPU has avx512_bf16"),
        (Machine(frozenset({"fpu", "avx512f"})), "float32", "the CPU has no native bfloat16 instructions"),
        (Machine(), "float32", "the CPU has no native bfloat16 instructions"),
        (Machine(gpus=(AMPERE,)), "bfloat16", "the GPU, NVIDIA A30, has compute capability 8.0"),
        (
            Machine(gpus=(Gpu("NVIDIA B200", (10, 0)),)),
            "bfloat16",
            "the GPU, NVIDIA B200, has compute capability 10.0",
        ),
        (
            Machine(gpus=(TURING,)),
            "float16",
            "the GPU, Tesla T4, has compute capability 7.5, and bfloat16 needs 8.0",
        ),
        (
            Machine(gpus=(VOLTA,)),
            "float16",
            "the GPU, Tesla V100, has compute capability 7.0, and bfloat16 needs 8.0",
        ),
        # The GPU decides, whatever the CPU has.
        (
            Machine(AMX, (PASCAL,)),
            "float32",
            "the GPU, GeForce GTX 1080, has compute capability 6.1, and float16 needs 7.0",
        ),
        # The least capable of several GPUs decides.
        (
            Machine(gpus=(AMPERE, TURING)),
            "float16",
            "the GPU, Tesla T4, has compute capability 7.5, and bfloat16 needs 8.0",
        ),
    ],
)
def test_facts_decide_and_are_the_reason(machine: Machine, precision: str, reason: str) -> None:
    choice = choose_precision(machine)
    assert choice == PrecisionChoice(precision, reason)
    assert str(choice) == f"{precision}: {reason}"
    assert explain_precision(precision, machine) == choice


def test_what_was_set_is_told_with_what_the_machine_would_have_chosen() -> None:
    assert str(explain_precision("float16", Machine(AMX))) == (
        "float16: as set; auto would be bfloat16 here, since the CPU has amx_bf16 and avx512_bf16"
    )


@pytest.mark.parametrize("machine", [Machine(), Machine(AMX)])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_precision_is_the_compute_type_and_weights_stay_float32(precision: str, machine: Machine) -> None:
    before = keras.config.dtype_policy()
    try:
        apply_precision(precision, machine)
        layer = keras.layers.Dense(2)
        assert (layer.compute_dtype, layer.variable_dtype) == (precision, "float32")
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize(
    ("machine", "upcast"),
    [
        (Machine(), {"bfloat16", "float16"}),
        (Machine(frozenset({"fpu", "avx2"})), {"bfloat16", "float16"}),
        # oneDNN converts bfloat16 itself where there is no instruction for it.
        (Machine(frozenset({"avx2", "avx512f"})), {"float16"}),
        (Machine(AMX), {"float16"}),
        (Machine(AMX | {"avx512_fp16"}), set()),
        (Machine(frozenset({"avx2"}), (PASCAL,)), set()),
    ],
)
def test_convolutions_are_upcast_where_the_machine_has_no_fast_ones(machine: Machine, upcast: set[str]) -> None:
    before = keras.config.dtype_policy()
    found = set()
    try:
        for precision in ("float32", "bfloat16", "float16"):
            apply_precision(precision, machine)
            if is_upcast():
                found.add(precision)
    finally:
        keras.config.set_dtype_policy(before)
    assert found == upcast
