"""A U-Net in PyTorch with channels last, in float32 or bfloat16 autocast, on a GPU where there is one.

Runs with a Python that has torch and may lack everything else.
"""

import time

import torch
from torch import nn

from benchmarks.sides.lines import tell, wait
from benchmarks.sides.settings import HEIGHT, NUM_CLASSES, WIDTH, Settings, from_command_line


class UNet(nn.Module):
    """The same network as ours at its defaults."""

    def __init__(self, filters: int, num_blocks: int) -> None:
        super().__init__()
        widths = [filters * 2**level for level in range(num_blocks + 1)]
        self.encoder = nn.ModuleList(_block(a, b) for a, b in zip([1, *widths], widths[:-1], strict=False))
        self.bottleneck = _block(widths[-2], widths[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, 2, bias=False) for width in widths[-2::-1])
        self.decoder = nn.ModuleList(_block(2 * width, width) for width in widths[-2::-1])
        self.head = nn.Conv2d(filters, NUM_CLASSES, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        outputs, skips = images, []
        for block in self.encoder:
            outputs = block(outputs)
            skips.append(outputs)
            outputs = nn.functional.max_pool2d(outputs, 2)
        outputs = self.bottleneck(outputs)
        for up, block in zip(self.up, self.decoder, strict=True):
            outputs = block(torch.cat([up(outputs), skips.pop()], 1))
        return self.head(outputs)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)),
        *(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)),
    )


def _serve(settings: Settings) -> None:
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = UNet(settings.filters, settings.num_blocks).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    loss_of = nn.CrossEntropyLoss()
    images = torch.rand(settings.num_images, 1, HEIGHT, WIDTH, device=device)
    masks = torch.randint(0, NUM_CLASSES, (settings.num_images, HEIGHT, WIDTH), device=device)
    wait()
    tell({"name": f"PyTorch {torch.__version__}, {settings.peer_precision}"})
    while True:
        wait()
        start = time.perf_counter()
        for indices in torch.randperm(len(images), device=device).split(settings.batch_size):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.bfloat16, enabled=settings.peer_precision == "bfloat16"):
                logits = model(images[indices].to(memory_format=torch.channels_last))
            loss = loss_of(logits.float(), masks[indices])
            loss.backward()
            optimizer.step()
            loss.item()
        tell(len(images) / (time.perf_counter() - start))


if __name__ == "__main__":
    _serve(from_command_line())
