"""How much data a study trains on, and what training a configuration on it costs."""

from dataclasses import dataclass
from typing import Self

from marsseg.config import ExperimentConfig
from marsseg.data.prepare import PreparedData
from marsseg.data.rare import images_with, rarest_class
from marsseg.models.cost import REPORT_SECONDS, epoch_seconds, start_seconds
from marsseg.search.state import Cost


@dataclass(frozen=True)
class DataSize:
    """Sizes that costs depend on.

    Args:
        image_shape: (height, width).
        train_images: Number of training images.
        validation_images: Number of validation images.
        rare_images: Number of training images that show the rarest class.
    """

    image_shape: tuple[int, int]
    train_images: int
    validation_images: int
    rare_images: int = 0

    @classmethod
    def of(cls, data: PreparedData) -> Self:
        """The size of a study's data."""
        masks = data.masks[data.split.train]
        return cls(
            (data.images.shape[1], data.images.shape[2]),
            len(masks),
            len(data.split.validation),
            len(images_with(rarest_class(masks), masks)),
        )

    def cost(self, config: ExperimentConfig) -> Cost:
        """The cost of training a configuration, in modelled seconds.

        Args:
            config: `auto` resolved; fits the images.
        """
        return Cost(
            epoch_seconds(
                self.as_trained(config), self.image_shape, self._images_an_epoch(config), self.validation_images
            ),
            start_seconds(config, self.image_shape),
            REPORT_SECONDS,
        )

    def as_trained(self, config: ExperimentConfig) -> ExperimentConfig:
        """The config with the size that its batches will have: none is larger than an epoch."""
        images = max(1, self._images_an_epoch(config))
        return config if config.training.batch_size <= images else config.with_values({"training.batch_size": images})

    def _images_an_epoch(self, config: ExperimentConfig) -> int:
        return self.train_images + config.augmentation.repeat_rare * self.rare_images
