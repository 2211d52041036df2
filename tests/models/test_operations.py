"""The counts made from a config are those of the network that is built from it."""

import pytest

from marsseg.config import UNetConfig
from marsseg.models.dual_unet import build_dual_unet
from marsseg.models.operations import count_operations
from marsseg.models.unet import build_unet
from tests.models.flops import count_flops

pytestmark = pytest.mark.usefixtures("tensorflow_runtime", "float32_policy")

OPTIONS: list[dict[str, object]] = [
    {},
    {"upsampling": "upsampling2d", "normalization": "none"},
    {"skip_connections": False},
    *({block: place} for block in ("se", "cbam") for place in ("encoder", "skip", "bottleneck")),
    {"attention_gates": True},
    {"stn": True},
    {"dilation": "bottleneck", "dilation_rates": (2, 4)},
    {"dilation": "skip", "dilation_rates": (1, 2, 4)},
    {"residual": True},
    {"residual": True, "normalization": "none", "dilation": "both", "skip_connections": True},
    {"family": "dual_unet"},
    {"family": "dual_unet", "global_blocks": 3, "num_blocks": 4, "residual": True, "se": "skip", "cbam": "bottleneck"},
    *({"family": family, "base_filters": 8, "max_filters": 4} for family in ("unet", "dual_unet")),
    {"stn": True, "se": "encoder", "cbam": "skip", "attention_gates": True, "dilation": "both", "num_blocks": 5},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_flops_and_params_are_those_of_the_network(options: dict[str, object]) -> None:
    config = UNetConfig.model_validate({"num_blocks": 3, "base_filters": 8, "max_filters": 32, **options})
    operations = count_operations(config, (32, 64), 5)
    model = {"unet": build_unet, "dual_unet": build_dual_unet}[config.family](config, (32, 64, 1), 5)
    assert operations.params == model.count_params()
    assert operations.flops == count_flops(model)


def test_work_by_hand() -> None:
    config = UNetConfig(num_blocks=2, base_filters=8, max_filters=16)
    work = count_operations(config, (16, 32), 5).work
    full, half, quarter = 512, 128, 32
    # The image's one channel counts as one, other numbers of channels as the next multiple of 16.
    blocks = full * 9 * (16 + 16 * 16 * 3) + half * 9 * 16 * 16 * 2 + half * 9 * (32 + 16) * 16 + quarter * 9 * 256 * 2
    others = half * 4 * 256 // 4 + full * 4 * 256 // 4 + full * 16 * 16
    assert work["multiply"] == pytest.approx((blocks + others) / 1e6)
    assert work["activation"] == pytest.approx((full * 8 * 4 + half * 16 * 4 + quarter * 16 * 2) / 1e6)
    assert work["unaligned"] == pytest.approx(full * 8 * 4 / 1e6)
    assert "dilated" not in work


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        ({"dilation": "skip"}, "dilated"),
        ({"se": "encoder"}, "gate"),
        ({"cbam": "skip"}, "pixel_gate"),
        ({"stn": True}, "sample"),
    ],
)
def test_an_option_adds_work_of_its_kind_and_layers(option: dict[str, object], kind: str) -> None:
    plain, other = (
        count_operations(UNetConfig.model_validate({"num_blocks": 3, "base_filters": 16, **values}), (32, 64), 5)
        for values in ({}, option)
    )
    assert other.work.get(kind, 0) > plain.work.get(kind, 0)
    assert other.layers > plain.layers
