"""Worker: one Gatys iteration in PyTorch.

Arguments: size, threads, precision ("fp32", "autocast" to bf16, or "bf16" for all tensors), problem
("no" masks, or "network": no losses), layout, mode.
"""

from __future__ import annotations

import sys

import torch
from gatys_problem import CONTENT, PLAN, STYLES, picture, weights
from side_by_side import resident_peak, serve

size, threads = int(sys.argv[1]), int(sys.argv[2])
precision, problem, layout, mode = sys.argv[3:7]
torch.set_num_threads(threads)
before = resident_peak()
memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
dtype = torch.bfloat16 if precision == "bf16" else torch.float32
autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast")
arrays = [
    (
        torch.from_numpy(w).to(dtype, memory_format=memory_format),
        torch.from_numpy(b).to(dtype),
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


def tensor(seed: int) -> torch.Tensor:
    """Return a random picture."""
    return torch.from_numpy(picture(size, seed)).to(dtype, memory_format=memory_format)


def loss(x: torch.Tensor) -> torch.Tensor:
    """Return the content and style loss."""
    found = features(x)
    if problem == "network":
        return found[PLAN[-1]].sum()
    total = torch.nn.functional.mse_loss(found[CONTENT], content)
    for name in STYLES:
        total = total + torch.nn.functional.mse_loss(gram(found[name]), styles[name])
    return total


with torch.no_grad(), autocast:
    content = features(tensor(1))[CONTENT].clone()
    styles = {name: gram(features(tensor(2))[name]) for name in STYLES}
image = tensor(3).requires_grad_(True)
step = torch.compile(loss) if mode == "compiled" else loss


def iteration() -> None:
    """Loss and gradient to the image."""
    image.grad = None
    with autocast:
        value = step(image)
    value.backward()


serve(iteration, before)
