"""Decides whether a proposal is tried, by the images and the command line's limits, and models its cost."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from marsseg.config import ExperimentConfig
from marsseg.errors import ConfigError
from marsseg.jobs.candidates import Candidates
from marsseg.jobs.data_size import DataSize
from marsseg.jobs.settings import Filters
from marsseg.models.operations import Operations, count_operations
from marsseg.search.state import Cost


@dataclass(frozen=True)
class Admission:
    """Checks proposals before anything is spent on them.

    Args:
        candidates: Turns values into configs.
        filters: Limits on a configuration.
        data: How much data there is to train on.
        sizes: Fields of `Operations` that are objectives besides the score.
    """

    candidates: Candidates
    filters: Filters
    data: DataSize
    sizes: tuple[str, ...] = ()

    def facts(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Facts about a proposal that the ledger records for decisions: its cost, and the sizes that are objectives."""
        facts: dict[str, Any] = {"cost": asdict(self.cost(values))}
        if self.sizes:
            operations = self.operations(values)
            facts["sizes"] = {name: getattr(operations, name) for name in self.sizes} if operations else {}
        return facts

    def cost(self, values: Mapping[str, Any]) -> Cost:
        """The modelled cost of training it; zero where it cannot be trained."""
        try:
            return self.data.cost(self._config(values))
        except ConfigError:
            return Cost()

    def operations(self, values: Mapping[str, Any]) -> Operations | None:
        """The operation counts of its network; None where it cannot be trained."""
        try:
            config = self._config(values)
        except ConfigError:
            return None
        return count_operations(config.model, self.data.image_shape, config.data.num_classes)

    def reason_to_reject(self, values: Mapping[str, Any]) -> str | None:
        """Why it will not be tried, or None."""
        try:
            config = self._config(values)
        except ConfigError as error:
            return str(error)
        operations = count_operations(config.model, self.data.image_shape, config.data.num_classes)
        for name, found, limit in (
            ("params", operations.params, self.filters.max_params),
            ("flops", operations.flops, self.filters.max_flops),
        ):
            if limit is not None and found > limit:
                return f"{found:,} {name}, --max-{name} is {limit:,}"
        return None

    def reason_after_measuring(self, step_ms: float) -> str | None:
        """Why it will not be tried now that its step has been timed, or None."""
        limit = self.filters.max_step_ms
        return f"{step_ms:.0f} ms a step, --max-step-ms is {limit:g}" if limit is not None and step_ms > limit else None

    def _config(self, values: Mapping[str, Any]) -> ExperimentConfig:
        config = self.candidates.config(values)
        config.model.check_image_fits(*self.data.image_shape)
        return config
