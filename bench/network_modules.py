"""The networks that bench_networks.py times as PyTorch modules with seeded weights.

`python bench/network_modules.py NAME FOLDER` writes what the workers read: input, output, the
weights under their published keys, and an ONNX model.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from network_problem import AUTOCAST, MOMENTS, OUTPUT, SIZES, architecture
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "golden")]

from torch_networks import adain, depth, johnson  # noqa: E402

OPSET = 18


class Adain(nn.Module):
    """Encoder, AdaIN with the cached moments of a style, decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = adain.encoder(), adain.decoder()
        self.register_buffer("style_mean", torch.zeros(1, 512, 1, 1))
        self.register_buffer("style_std", torch.ones(1, 512, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the picture."""
        features = self.encoder(x)
        mean, std = adain.moments(features)
        return self.decoder((features - mean) / std * self.style_std + self.style_mean)


class Finest(nn.Module):
    """Monodepth2 with its finest disparity alone."""

    def __init__(self) -> None:
        super().__init__()
        self.network = depth.build("monodepth2")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the disparity."""
        return self.network(x)["disp", 0]


def build(name: str) -> nn.Module:
    """Return a module with seeded weights that keep the size of its maps."""
    makers = {"adain": Adain, "johnson": johnson.PytorchExamples, "monodepth2": Finest}
    name = architecture(name)
    module = makers.get(name, lambda: depth.build(name))().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(5)
    for key, value in module.state_dict().items():
        if value.ndim == 4 and not key.startswith("style_"):
            value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
        elif value.ndim == 1 and key.endswith(("weight", "running_var")):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.ndim == 1:
            value.normal_(0, 0.1, generator=generator)
        if key == "scratch.output_conv.4.weight":
            value.abs_()  # or the ReLU at the end might leave nothing to compare
    return module


def example(name: str) -> torch.Tensor:
    """Return an input of the network."""
    generator = torch.Generator().manual_seed(6)
    x = torch.rand(1, 3, *SIZES[name], generator=generator)
    return 255 * x if architecture(name) == "johnson" else x


def write_weights(name: str, module: nn.Module, folder: Path) -> None:
    """Write the published files: one, or one for each part."""
    if name == "adain":
        parts = {"encoder": module.encoder, "decoder": module.decoder}
        moments = torch.cat([module.style_mean, module.style_std], 3)
        np.save(folder / MOMENTS, moments.numpy())
    else:
        parts = {"weights": getattr(module, "network", module)}
    for part, content in parts.items():
        torch.save(content.state_dict(), folder / f"{part}.pth")


def main() -> None:
    """Write the files of one network."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    module, x = build(name), example(name)
    np.save(folder / "input.npy", x.numpy())
    np.save(folder / OUTPUT, module(x).numpy())
    with torch.autocast("cpu", torch.bfloat16):
        np.save(folder / AUTOCAST, module(x).float().numpy())
    write_weights(name, module, folder)
    torch.onnx.export(module, (x,), str(folder / "model.onnx"), opset_version=OPSET, dynamo=True)


if __name__ == "__main__":
    main()
