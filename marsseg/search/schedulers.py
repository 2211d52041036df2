"""The schedulers by name."""

from collections.abc import Callable, Mapping

from marsseg.search.freeze_thaw import FreezeThaw
from marsseg.search.scheduler import Rungs, Scheduler
from marsseg.search.stopping import FullTraining, MedianStopping
from marsseg.search.successive_halving import Asha, Hyperband, TopK

SCHEDULERS: Mapping[str, Callable[[Rungs], Scheduler]] = {
    "asha": Asha,
    "freeze-thaw": FreezeThaw,
    "hyperband": Hyperband,
    "median": MedianStopping,
    "topk": TopK,
    "none": FullTraining,
}
