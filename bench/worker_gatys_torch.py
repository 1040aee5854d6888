"""Worker: one Gatys iteration in PyTorch.

Arguments: size, threads, problem ("no" masks, or "network": no losses), layout, mode.
"""

from __future__ import annotations

import sys

import torch
from gatys_problem import CONTENT, PLAN, STYLES, weights
from side_by_side import resident_peak, serve

size, threads = int(sys.argv[1]), int(sys.argv[2])
problem, layout, mode = sys.argv[3:6]
torch.set_num_threads(threads)
before = resident_peak()
memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
arrays = [
    (
        torch.from_numpy(w).contiguous(memory_format=memory_format),
        torch.from_numpy(b),
    )
    for w, b in weights()
]


def features(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the tapped feature maps."""
    found = {}
    layers = iter(arrays)
    for name in PLAN:
        if name == "pool":
            x = torch.nn.functional.max_pool2d(x, 2)
            continue
        w, b = next(layers)
        x = torch.nn.functional.relu(torch.nn.functional.conv2d(x, w, b, padding=1))
        if name in STYLES or name == CONTENT:
            found[name] = x
    return found


def gram(x: torch.Tensor) -> torch.Tensor:
    """Return the Gram matrix divided by the pixels."""
    f = x.flatten(2)
    return f @ f.transpose(1, 2) / f.shape[2]


def picture(seed: int) -> torch.Tensor:
    """Return a smooth random picture: noise would make every target alike."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, size // 16, size // 16, generator=generator) * 4 - 2
    whole = torch.nn.functional.interpolate(small, size=(size, size), mode="bicubic")
    return whole.contiguous(memory_format=memory_format)


def loss(x: torch.Tensor) -> torch.Tensor:
    """Return the content and style loss."""
    found = features(x)
    if problem == "network":
        return found[PLAN[-1]].sum()
    total = torch.nn.functional.mse_loss(found[CONTENT], content)
    for name in STYLES:
        total = total + torch.nn.functional.mse_loss(gram(found[name]), styles[name])
    return total


with torch.no_grad():
    content = features(picture(1))[CONTENT].clone()
    styles = {name: gram(features(picture(2))[name]) for name in STYLES}
image = picture(3).requires_grad_(True)
step = torch.compile(loss) if mode == "compiled" else loss


def iteration() -> None:
    """Loss and gradient to the image."""
    image.grad = None
    step(image).backward()


serve(iteration, before)
