"""Images per second in training: 4 levels, batches of 16 tiles of 64×128, Adam, cross-entropy.

Ours is `Training` as every trial runs it: its data path, averaged weights and determinism, without the validation.
The peers train the same network on as many tiles: plain Keras with `compile` and `fit` in float32, and PyTorch with
channels last, the fused Adam and bfloat16 autocast, or in float32 where the CPU has no fast convolutions in bfloat16,
if a Python with torch is available (`MARSEXP_TORCH_PYTHON`). Each side has a process of its own; they train epochs of
25 steps, interleaved. Plain Keras now and then waits for seconds between epochs, for its input to be torn down: its
figures include that, its quartiles show it. `share_of_peak` is our rate, counting three times the forward pass's
operations, as a share of the rate of a multiplication of large matrices in the same process. One more row compares with
plain Keras in the other precision: float32 where all the above is in bfloat16; else bfloat16 on both sides, on epochs
of two steps. The last rows have no peer: without augmentation, as all above, and with every kind of it, on all cores
and on one thread, as in a search's worker.
"""

import statistics
import sys
from contextlib import ExitStack
from dataclasses import replace

from benchmarks.processes import side, torch_python
from benchmarks.results import Promise, Result
from benchmarks.sides.settings import Settings
from benchmarks.turns import take_turns
from marsseg.training.runtime import available_cores, this_machine

# Other load moves single turns by a tenth and more, and one promise is a tenth: it takes more turns.
_REPEATS, _MANY_REPEATS, _FEW_REPEATS, _NUM_IMAGES, _FEW_IMAGES = 9, 21, 5, 400, 32


def main() -> None:
    """Compares with each peer in turn."""
    native = this_machine().convolves_in("bfloat16")
    for filters in (16, 32):
        settings = Settings("train", filters, num_images=_NUM_IMAGES, threads=available_cores())
        _compare(settings, "plain_keras", sys.executable, _REPEATS, Promise(2.5, "ratio"))
        promised = native and filters == 16
        _compare(
            replace(settings, peer_precision="bfloat16" if native else "float32"),
            "torch_unet",
            torch_python(),
            _MANY_REPEATS if promised else _REPEATS,
            Promise(1.1, "ratio") if promised else None,
        )
    settings = Settings("train", num_images=_NUM_IMAGES, threads=available_cores(), precision="float32")
    if not native:
        settings = replace(settings, num_images=_FEW_IMAGES, precision="bfloat16", peer_precision="bfloat16")
    _compare(settings, "plain_keras", sys.executable, _REPEATS)
    for threads in sorted({available_cores(), 1}, reverse=True):
        for augmented in (False, True):
            what = f", {threads} thread{'s' if threads > 1 else ''}, {'every' if augmented else 'no'} augmentation"
            _measure(Settings("train", num_images=_NUM_IMAGES, threads=threads, augmented=augmented), what)


def _measure(settings: Settings, what: str) -> None:
    with side("marsexp", settings) as ours:
        answers, _ = take_turns(ours.ask, None, _FEW_REPEATS, warm_up=1)
    Result(
        "throughput",
        f"{settings.filters} filters, {ours.about['name']}{what}",
        "images/s",
        [images_per_s for images_per_s, _ in answers],
        higher_is_better=True,
        details={"share_of_waiting_for_data": round(statistics.median(share for _, share in answers), 4)},
    ).report()


def _compare(
    settings: Settings, peer_name: str, peer_python: str | None, repeats: int, promise: Promise | None = None
) -> None:
    with ExitStack() as sides:
        ours = sides.enter_context(side("marsexp", settings))
        peer = sides.enter_context(side(peer_name, settings, peer_python)) if peer_python else None
        answers, peer_figures = take_turns(ours.ask, peer.ask if peer else None, repeats, warm_up=1)
        figures = [images_per_s for images_per_s, _ in answers]
        peak = ours.about["peak_gflop_per_s"]
        reached = 3 * ours.about["gflop_per_image"] * statistics.median(figures)
        Result(
            "throughput",
            f"{settings.filters} filters, {ours.about['name']}",
            "images/s",
            figures,
            peer_figures,
            peer.about["name"] if peer else f"PyTorch, {settings.peer_precision}",
            higher_is_better=True,
            promise=promise,
            details={
                "peak_gflop_per_s": round(peak),
                "share_of_peak": round(reached / peak, 3),
                "share_of_waiting_for_data": round(statistics.median(share for _, share in answers), 4),
            },
        ).report()


if __name__ == "__main__":
    main()
