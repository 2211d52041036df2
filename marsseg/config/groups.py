"""The groups of the experiment config: frozen values, each checked when it is made.

A field's default never changes within a schema version. The modules that use the values implement their meaning.
"""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from marsseg.errors import ConfigError

SYNTHETIC = "synthetic"
PIXELWISE_LOSSES = frozenset({"cross_entropy", "focal"})
LossName = Literal["cross_entropy", "focal", "dice", "tversky", "focal_tversky", "lovasz_softmax"]
Place = Literal["none", "encoder", "skip", "bottleneck"]
_LEAST_BLOCKS = {"num_blocks": 2, "global_blocks": 1}


class Group(BaseModel):
    """The base of all groups: frozen, strict about types, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _none_by_name(value: Any) -> Any:
    """TOML and both search engines have no null value, so it has a name."""
    return None if value == "none" else value


NoneByName = BeforeValidator(_none_by_name)


class DataConfig(Group):
    """The images and masks: a file, or `synthetic` terrain of `synthetic_images` tiles, drawn from `synthetic_seed`.

    `train_limit` is the maximum number of training images.
    """

    source: str = SYNTHETIC
    num_classes: int = Field(5, ge=2, le=255)
    train_limit: Annotated[int | None, NoneByName] = Field(None, ge=1)
    synthetic_images: int = Field(600, ge=10)
    synthetic_seed: int = Field(0, ge=0)


class CleaningConfig(Group):
    """Images left out before the split: outliers, which share a mask that cannot be right for all of them."""

    remove_outliers: bool = True


class SplitConfig(Group):
    """The number of images held out for validation and test; `none` means 10 % of the cleaned images each."""

    validation_images: Annotated[int | None, NoneByName] = Field(None, ge=1)
    test_images: Annotated[int | None, NoneByName] = Field(None, ge=0)
    seed: int = Field(0, ge=0)


def _parse_rates(value: Any) -> Any:
    """Integers from one, from a list, or from a string such as `1,2,4`, which a search space can hold."""
    if isinstance(value, list):
        return tuple(value)
    if type(value) is int:
        return (value,)
    if not isinstance(value, str):
        return value
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise ValueError(f"expected integers joined by ',', found '{value}'") from None


class UNetConfig(Group):
    """A U-Net (Ronneberger et al., 2015, arXiv 1505.04597) or a dual U-Net, with optional blocks.

    Filters double from `base_filters` at each level, up to `max_filters`. Squeeze-and-excitation (`se`) and `cbam` are
    placed at every level of the encoder, on every skip connection, or in the bottleneck; `dilation` replaces the
    convolutions of the bottleneck and adds dilated ones to the skip connections. With `stn`, a spatial transformer
    applies a learned affine transform to the image, and its inverse to the logits. With `predict_background = false`,
    class 0 is never predicted. `dual_unet` has a second network of `global_blocks` levels on the image at half its
    size.
    """

    family: Literal["unet", "dual_unet"] = "unet"
    num_blocks: int = Field(4, ge=_LEAST_BLOCKS["num_blocks"], le=6)
    base_filters: int = Field(16, ge=1)
    max_filters: int = Field(512, ge=1)
    upsampling: Literal["upsampling2d", "conv2d_transpose"] = "conv2d_transpose"
    skip_connections: bool = True
    se: Place = "none"
    se_reduction_ratio: int = Field(4, ge=1)
    cbam: Place = "none"
    cbam_reduction_ratio: int = Field(4, ge=1)
    attention_gates: bool = False
    stn: bool = False
    dilation: Literal["none", "bottleneck", "skip", "both"] = "none"
    dilation_rates: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Field(min_length=1, max_length=6),
        BeforeValidator(_parse_rates),
        PlainSerializer(lambda rates: ",".join(map(str, rates)), return_type=str),
        Field(description="one to six integers ≥ 1, joined by `,`"),
    ] = (1, 2)
    residual: bool = False
    global_blocks: int = Field(2, ge=_LEAST_BLOCKS["global_blocks"], le=5)
    normalization: Literal["batch", "none"] = "batch"
    dropout: float = Field(0.0, ge=0, lt=1)
    predict_background: bool = True

    @model_validator(mode="after")
    def _skips_exist(self) -> Self:
        needed = {
            "se = 'skip'": self.se == "skip",
            "cbam = 'skip'": self.cbam == "skip",
            "attention_gates = true": self.attention_gates,
            f"dilation = '{self.dilation}'": self.dilation in ("skip", "both"),
        }
        for option, chosen in needed.items():
            if chosen and not self.skip_connections:
                raise ValueError(f"{option} needs skip_connections = true")
        return self

    @model_validator(mode="after")
    def _options_fit_the_family(self) -> Self:
        if self.family == "dual_unet" and self.stn:
            raise ValueError("stn = true needs family = 'unet', found 'dual_unet'")
        if self.family == "unet" and self.global_blocks != UNetConfig.model_fields["global_blocks"].default:
            raise ValueError("global_blocks needs family = 'dual_unet', found 'unet'")
        return self

    @model_validator(mode="after")
    def _ratios_divide(self) -> Self:
        ratios = {"se": self.se_reduction_ratio, "cbam": self.cbam_reduction_ratio}
        for block, ratio in ratios.items():
            for level in self._levels_of(getattr(self, block)):
                filters = self.filters_at(level)
                if filters % ratio:
                    raise ValueError(
                        f"{block}_reduction_ratio must divide filters: {ratio} and {filters} at level {level}"
                    )
        return self

    def filters_at(self, level: int) -> int:
        """Filters at a level: 0 is full size, `num_blocks` the bottleneck."""
        filters: int = self.base_filters * 2**level
        return min(filters, self.max_filters)

    def _levels_of(self, place: Place) -> list[int]:
        """The levels that have a block placed there."""
        bottlenecks = {self.num_blocks, self.global_blocks} if self.family == "dual_unet" else {self.num_blocks}
        if place == "bottleneck":
            return sorted(bottlenecks)
        return [] if place == "none" else list(range(max(bottlenecks)))

    def check_image_fits(self, height: int, width: int) -> None:
        """Rejects an image that cannot be halved `num_blocks` times, or `global_blocks` times at half its size.

        Raises:
            ConfigError: If a side is not divisible by 2 to the power of the halvings.
        """
        halvings = {"num_blocks": (self.num_blocks, 0)}
        if self.family == "dual_unet":
            halvings["global_blocks"] = (self.global_blocks, 1)
        for field, (blocks, before) in halvings.items():
            divisor = 2 ** (blocks + before)
            if height % divisor or width % divisor:
                deepest = max(n for n in range(7) if height % 2**n == 0 and width % 2**n == 0) - before
                fewest = _LEAST_BLOCKS[field]
                fit = (
                    f"at most {deepest} blocks fit"
                    if deepest >= fewest
                    else f"no network fits: crop or pad the images to sides divisible by {2 ** (fewest + before)}"
                )
                raise ConfigError(
                    f"model.{field} = {blocks} needs image sides divisible by {divisor}, found {height}x{width}; {fit}"
                )


class AugmentationConfig(Group):
    """Random augmentation of the training images, drawn for each image and epoch, and oversampling of the rarest class.

    `translation` is the largest shift as a fraction of each side, `rotation` the largest angle in degrees, `contrast`
    the largest relative change of each pixel's distance from the image's mean, `brightness` the largest change as a
    fraction of the range; `cutmix`, `cutout` and `paste_rare` are probabilities. The rare class is the one with the
    fewest pixels: images that contain it are repeated `repeat_rare` additional times per epoch, and its objects are
    pasted into other images.
    """

    flips: bool = False
    translation: float = Field(0.0, ge=0, le=0.5)
    rotation: float = Field(0.0, ge=0, le=180)
    contrast: float = Field(0.0, ge=0, le=1)
    brightness: float = Field(0.0, ge=0, le=1)
    cutmix: float = Field(0.0, ge=0, le=1)
    cutout: float = Field(0.0, ge=0, le=1)
    repeat_rare: int = Field(0, ge=0, le=100)
    paste_rare: float = Field(0.0, ge=0, le=1)


def _parse_loss_terms(value: Any) -> Any:
    """Pairs of name and weight, in the order of the names, from a table or from `0.5*cross_entropy+dice`."""
    if isinstance(value, dict):
        return tuple(sorted(value.items()))
    if not isinstance(value, str):
        return value
    terms: dict[str, float] = {}
    for part in value.split("+"):
        weight, _, name = part.strip().rpartition("*")
        try:
            factor = float(weight) if weight else 1.0
        except ValueError:
            raise ValueError(f"expected NAME or WEIGHT*NAME joined by '+', found '{value}'") from None
        if name.strip() in terms:
            raise ValueError(f"loss '{name.strip()}' appears twice in '{value}'")
        terms[name.strip()] = factor
    return tuple(sorted(terms.items()))


class LossConfig(Group):
    """A weighted sum of losses, with optional class weights.

    `class_weights` weights each class by its inverse pixel frequency (`frequency`) or by ln(1 + inverse frequency)
    (`log`); `background_weight` multiplies the weight of class 0. `tversky_alpha` weights false negatives,
    `tversky_beta` false positives. For a `dual_unet` this loss applies to the final output and, scaled by
    `fine_output_weight`, to the fine branch; the global branch always uses cross-entropy, scaled by
    `global_output_weight`.
    """

    terms: Annotated[
        tuple[tuple[LossName, float], ...],
        BeforeValidator(_parse_loss_terms),
        PlainSerializer(dict, return_type=dict[str, float]),
        Field(description=f"`NAME` or `WEIGHT*NAME`, joined by `+`: {', '.join(get_args(LossName))}"),
    ] = (("cross_entropy", 1.0),)
    class_weights: Literal["none", "frequency", "log"] = "none"
    background_weight: float = Field(1.0, ge=0)
    focal_gamma: float = Field(2.0, ge=0)
    tversky_alpha: float = Field(0.7, ge=0)
    tversky_beta: float = Field(0.3, ge=0)
    focal_tversky_exponent: float = Field(0.75, gt=0)
    fine_output_weight: float = Field(0.5, ge=0)
    global_output_weight: float = Field(0.5, ge=0)

    @model_validator(mode="after")
    def _has_terms(self) -> Self:
        if not self.terms or any(weight <= 0 for _, weight in self.terms):
            raise ValueError("terms must name at least one loss, each with a weight above 0")
        return self

    @model_validator(mode="after")
    def _errors_count(self) -> Self:
        if self.tversky_alpha + self.tversky_beta == 0:
            raise ValueError("tversky_alpha and tversky_beta must not both be 0")
        return self


class OptimizerConfig(Group):
    """Adam (Kingma & Ba, 2014, arXiv 1412.6980), AdamW (Loshchilov & Hutter, 2017, arXiv 1711.05101), Nadam or SGD.

    Nadam is Dozat's (2016) as Keras implements it, with a momentum schedule that warms up 250 times faster than in
    the paper; SGD has Polyak's momentum. Weight decay is decoupled from the gradient.
    """

    name: Literal["adam", "adamw", "nadam", "sgd"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _values_have_effect(self) -> Self:
        if self.weight_decay and self.name == "adam":
            raise ValueError("weight_decay needs name = 'adamw', which is Adam with decoupled decay; found 'adam'")
        if self.name != "sgd" and self.momentum != OptimizerConfig.model_fields["momentum"].default:
            raise ValueError(f"momentum needs name = 'sgd', found '{self.name}'")
        return self


class ScheduleConfig(Group):
    """How the learning rate changes from epoch to epoch, down to `min_learning_rate`.

    `plateau` multiplies it by `factor` when `val_mean_iou` has not risen for `patience` epochs; `exponential` does so
    every epoch after the first `hold_epochs`; `cosine` warms up linearly for `climb_epochs`, then decays until the last
    epoch.
    """

    name: Literal["constant", "plateau", "exponential", "cosine"] = "constant"
    factor: float = Field(0.5, gt=0, lt=1)
    patience: int = Field(5, ge=1)
    hold_epochs: int = Field(10, ge=1)
    climb_epochs: int = Field(0, ge=0)
    min_learning_rate: float = Field(1e-6, ge=0)

    def check_fits(self, num_epochs: int) -> None:
        """Rejects a schedule that is too long for this number of epochs: the rate would never fall.

        Raises:
            ValueError: If it holds or warms up until the end.
        """
        waits = {"exponential": ("hold_epochs", self.hold_epochs), "cosine": ("climb_epochs", self.climb_epochs)}
        field, epochs = waits.get(self.name, ("", 0))
        if epochs >= num_epochs:
            raise ValueError(
                f"schedule.{field} must be below the {num_epochs} epochs that schedule.name = '{self.name}' has, "
                f"found {epochs}"
            )


class WarmupConfig(Group):
    """An optional first training stage with its own loss, optimizer and schedule, before the main stage.

    The main stage continues from its weights. With 0 epochs, and by default, there is no such stage. The linear warm-up
    of the learning rate is `schedule.climb_epochs`.
    """

    epochs: int = Field(ge=0)
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()


class TrainingConfig(Group):
    """How long and on which hardware to train; `auto` is resolved when a run is created.

    `gpus` is the number of GPUs one training run is distributed over; without a GPU, the CPU counts as one. With
    `weight_averaging`, an exponential moving average of the weights is validated and kept. `early_stopping_patience`
    ends training after this number of epochs without a better `val_mean_iou`.
    """

    batch_size: int = Field(16, ge=1)
    max_epochs: int = Field(27, ge=1)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    threads: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    gpus: int = Field(1, ge=1)
    weight_averaging: bool = True
    early_stopping_patience: Annotated[int | None, NoneByName] = Field(None, ge=1)
