"""The operations of a network, counted from its config alone: nothing is built, so that a search can ask often."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from marsseg.config import UNetConfig
from marsseg.models.sizes import (
    ATTENTION_KERNEL_SIZE,
    LOCALIZATION_FILTERS,
    LOCALIZATION_POOL,
    LOCALIZATION_UNITS,
    PLAIN_RATES,
    fitting_rates,
)

# CPUs process channels in groups of this size; a partial group costs as much as a full one.
_ALIGNMENT = 16
_MILLION = 1e6


@dataclass(frozen=True)
class Operations:
    """The forward pass of one image.

    Args:
        flops: Floating-point operations of convolutions and dense layers, a multiply-add counted as two.
        params: Number of parameters, including moving statistics.
        work: Amounts by kind, in millions: `multiply` (multiply-adds of convolutions, channels rounded up to 16),
            `dilated` (of those, the dilated convolutions'), `activation` (outputs of normalisation and ReLU),
            `unaligned` (of those, with channels that are not a multiple of 16), `gate` (values that gates scale),
            `pixel_gate` (pixels with a gate of their own), `resize` (outputs of upsampling without weights and of the
            ends of skips), `sample` (outputs of the spatial transformer).
        layers: Number of layers, which adds to a step's cost beyond the amounts above.
    """

    flops: int
    params: int
    work: Mapping[str, float]
    layers: int


def count_operations(config: UNetConfig, image_shape: tuple[int, int], num_classes: int) -> Operations:
    """Counts the operations of the networks that `build_unet` and `build_dual_unet` build.

    Args:
        config: The network's config.
        image_shape: (height, width) of the images.
        num_classes: Channels of the result.
    """
    count = _Count(config)
    height, width = image_shape
    if config.family == "dual_unet":
        half = height // 2, width // 2
        count.encoder_decoder(image_shape, config.num_blocks)
        count.head(image_shape, config.filters_at(0), num_classes)
        count.encoder_decoder(half, config.global_blocks)
        count.head(half, config.filters_at(0), num_classes)
        count.add("resize", height * width * 3 * num_classes, layers=3)
        count.block(image_shape, 2 * num_classes, config.filters_at(0))
    else:
        if config.stn:
            count.localization(height, width)
            count.add("sample", height * width * (1 + num_classes), layers=2)
        count.encoder_decoder(image_shape, config.num_blocks)
    count.head(image_shape, config.filters_at(0), num_classes)
    return Operations(count.flops, count.params, count.work, count.layers)


@dataclass
class _Count:
    """Running totals."""

    config: UNetConfig
    flops: int = 0
    params: int = 0
    layers: int = 0
    work: dict[str, float] = field(default_factory=dict)

    def add(self, kind: str, amount: float, layers: int = 1) -> None:
        self.work[kind] = self.work.get(kind, 0.0) + amount / _MILLION
        self.layers += layers

    def convolution(self, pixels: int, area: int, channels: int, filters: int, *, bias: bool, rate: int = 1) -> None:
        """A kernel of this area at this many pixels."""
        self._products(pixels, area, channels, filters, bias)
        multiply = pixels * area * _aligned(channels) * _aligned(filters)
        self.add("multiply", multiply)
        if rate > 1:
            self.add("dilated", multiply, layers=0)

    def block(self, sides: tuple[int, int], channels: int, filters: int, rates: Sequence[int] = PLAIN_RATES) -> None:
        """`conv_block`."""
        pixels, inputs = sides[0] * sides[1], channels
        for rate in fitting_rates(rates, sides):
            self._normalized_convolution(pixels, 9, channels, filters, rate)
            channels = filters
        if self.config.residual:
            if inputs != filters:
                self._normalized_convolution(pixels, 1, inputs, filters)
            self.add("activation", pixels * filters)

    def _normalized_convolution(self, pixels: int, area: int, channels: int, filters: int, rate: int = 1) -> None:
        self.convolution(pixels, area, channels, filters, bias=self.config.normalization == "none", rate=rate)
        self.add("activation", pixels * filters)
        if self.config.normalization == "batch":
            self.params += 4 * filters
            self.layers += 1
            if filters % _ALIGNMENT:
                self.add("unaligned", pixels * filters, layers=0)

    def encoder_decoder(self, image_sides: tuple[int, int], num_blocks: int) -> None:
        """`encode_decode` of an image of one channel."""
        config, channels = self.config, 1
        height, width = image_sides
        for level in range(num_blocks):
            sides = height >> level, width >> level
            self.block(sides, channels, config.filters_at(level))
            channels = config.filters_at(level)
            self.attention(sides, channels, "encoder")
            self.layers += 1
        sides = height >> num_blocks, width >> num_blocks
        rates = config.dilation_rates if config.dilation in ("bottleneck", "both") else PLAIN_RATES
        self.block(sides, channels, config.filters_at(num_blocks), rates)
        channels = config.filters_at(num_blocks)
        self.attention(sides, channels, "bottleneck")
        for level in reversed(range(num_blocks)):
            sides, filters = (height >> level, width >> level), config.filters_at(level)
            self.upsampling(sides, channels, filters)
            if config.skip_connections:
                self.skip(sides, filters, channels)
            self.block(sides, filters * (2 if config.skip_connections else 1), filters)
            channels = filters

    def head(self, sides: tuple[int, int], channels: int, num_classes: int) -> None:
        """`head`."""
        self.convolution(sides[0] * sides[1], 1, channels, num_classes, bias=True)

    def upsampling(self, sides: tuple[int, int], channels: int, filters: int) -> None:
        """`upsample`, to these sides."""
        pixels = sides[0] * sides[1]
        bias = self.config.normalization == "none"
        if self.config.upsampling == "conv2d_transpose":
            self.convolution(pixels // 4, 4, channels, filters, bias=bias)
        else:
            self.add("resize", pixels * channels)
            self.convolution(pixels, 4, channels, filters, bias=bias)

    def skip(self, sides: tuple[int, int], channels: int, coarser_channels: int) -> None:
        """The blocks on a skip connection, and its concatenation with the decoder's feature maps."""
        pixels = sides[0] * sides[1]
        if self.config.dilation in ("skip", "both"):
            self.block(sides, channels, channels, self.config.dilation_rates)
        self.attention(sides, channels, "skip")
        if self.config.attention_gates:
            hidden = max(channels // 2, 1)
            self.convolution(pixels // 4, 4, channels, hidden, bias=False)
            self.convolution(pixels // 4, 1, coarser_channels, hidden, bias=True)
            self.convolution(pixels // 4, 1, hidden, 1, bias=True)
            self.add("gate", pixels * channels, layers=4)
        self.add("resize", pixels * 2 * channels)

    def attention(self, sides: tuple[int, int], channels: int, place: str) -> None:
        """The attention blocks at a place."""
        pixels = sides[0] * sides[1]
        if self.config.se == place:
            hidden = channels // self.config.se_reduction_ratio
            self._dense(1, channels, hidden, channels)
            self.add("gate", pixels * channels, layers=2)
        if self.config.cbam == place:
            hidden = channels // self.config.cbam_reduction_ratio
            self._dense(2, channels, hidden, channels)
            self.add("gate", 2 * pixels * channels, layers=6)
            self._plain(pixels, ATTENTION_KERNEL_SIZE**2, 2, 1, bias=False)
            self.add("pixel_gate", pixels)

    def localization(self, height: int, width: int) -> None:
        """`localize`."""
        height, width, channels = -(-height // LOCALIZATION_POOL), -(-width // LOCALIZATION_POOL), 1
        for filters in LOCALIZATION_FILTERS:
            height, width = -(-height // 2), -(-width // 2)
            self._plain(height * width, 9, channels, filters, bias=True)
            channels = filters
        self._dense(1, height * width * channels, LOCALIZATION_UNITS, 6)
        self.layers += 4

    def _dense(self, rows: int, *widths: int) -> None:
        for inputs, outputs in pairwise(widths):
            self._plain(rows, 1, inputs, outputs, bias=True)

    def _plain(self, pixels: int, area: int, channels: int, filters: int, *, bias: bool) -> None:
        """A layer too small for its multiplications to matter."""
        self._products(pixels, area, channels, filters, bias)
        self.layers += 1

    def _products(self, pixels: int, area: int, channels: int, filters: int, bias: bool) -> None:
        self.params += area * channels * filters + (filters if bias else 0)
        self.flops += 2 * pixels * area * channels * filters


def _aligned(channels: int) -> int:
    # The image's single channel is not rounded up: it has a code path of its own.
    return 1 if channels == 1 else -(-channels // _ALIGNMENT) * _ALIGNMENT
