"""Writes adain/: weights, features, pictures and gradients of PyTorch for test_adain_golden.py.

    python tests/golden/make_adain.py

Encoder and decoder are the published modules with few channels and seeded weights, saved by
PyTorch. Every quantity is computed in float64, which is stored, and in float32; `NAME/error` is
the relative L2 distance between the two: what float32 costs PyTorch itself.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).parent)]

import seeded  # noqa: E402
from torch_networks.adain import decoder, encoder, moments  # noqa: E402

FOLDER = Path(__file__).parent / "adain"
WIDTHS = (5, 9, 12, 18)
TAPS = {"relu1_1": 3, "relu2_1": 10, "relu3_1": 17, "relu4_1": 30}
BETA, EPSILON, STRENGTH, SHARES = 20.0, 0.15, 0.6, (0.3, 0.7)


def seed(module, random):
    """Fill with He-scaled weights; the last layer then gives pictures around mid-grey."""
    for child in module:
        if isinstance(child, nn.Conv2d):
            scale = np.sqrt(2 / child.weight[0].numel())
            weight = random.standard_normal(tuple(child.weight.shape)) * scale
            bias = random.standard_normal(child.out_channels) * 0.05
            child.weight.data = torch.from_numpy(weight.astype(np.float32))
            child.bias.data = torch.from_numpy(bias.astype(np.float32))
    if module[-1].__class__ is nn.Conv2d:
        module[-1].weight.data *= 9
        module[-1].bias.data += 0.3
    return module


def to_planes(image, dtype):
    return torch.from_numpy(image.transpose(2, 0, 1)[None].copy()).to(dtype)


def adain(content, styles, shares, strength):
    mean, std = moments(content)
    stylised = 0
    for style, share in zip(styles, shares, strict=True):
        style_mean, style_std = moments(style)
        stylised = stylised + share * ((content - mean) / std * style_std + style_mean)
    return strength * stylised + (1 - strength) * content


def strength_map(depth, size, dtype):
    """Algorithm 1 of paper 002."""
    p = (depth.max() - depth)[None, None]
    p = F.interpolate(torch.from_numpy(p).to(dtype), size, mode="bilinear", antialias=True)
    p = (p - p.min()) / (p.max() - p.min())
    p = 1 / (1 + torch.exp(-BETA * (p - p.mean())))
    return p.clamp(max=1 - EPSILON)


def quantities(dtype):
    random = np.random.RandomState(7)
    f, g = seed(encoder(WIDTHS), random).to(dtype), seed(decoder(WIDTHS), random).to(dtype)
    out = {}
    batch = torch.cat([to_planes(seeded.picture(k, 21, 29), dtype) for k in (1, 2)])
    x = batch.requires_grad_()
    for layer, child in TAPS.items():
        out[f"features/{layer}"] = f[: child + 1](x)
    dy = torch.from_numpy(random.standard_normal(tuple(f(x).shape))).to(dtype)
    out["encoder/gradient"] = torch.autograd.grad((f(x) * dy).sum(), x)[0]
    y = f(x).detach().requires_grad_()
    dimage = torch.from_numpy(random.standard_normal(tuple(g(y).shape))).to(dtype)
    out["decoder/image"] = g(y)
    out["decoder/gradient"] = torch.autograd.grad((g(y) * dimage).sum(), y)[0]

    content = to_planes(seeded.picture(1, 21, 29), dtype).requires_grad_()
    styles = [f(to_planes(seeded.picture(k, 24, 19), dtype)) for k in (2, 3)]
    plain = g(adain(f(content), styles[:1], [1], 1))
    out["adain/image"] = plain
    out["adain/gradient"] = torch.autograd.grad((plain * dimage[:1]).sum(), content)[0]
    out["adain/weak"] = g(adain(f(content), styles[:1], [1], STRENGTH))
    out["adain/two"] = g(adain(f(content), styles, SHARES, 1))
    p = strength_map(seeded.depth(21, 29), (3, 4), dtype)
    out["strength"] = p
    out["da-adain/image"] = g(adain(f(content), styles[:1], [1], 1 - p))
    return f, g, {key: value.detach().numpy() for key, value in out.items()}, dy, dimage


def main():
    FOLDER.mkdir(exist_ok=True)
    *_, coarse, _, _ = quantities(torch.float32)
    f, g, exact, dy, dimage = quantities(torch.float64)
    stored = {"dy": dy.numpy(), "dimage": dimage.numpy()}
    for key, value in exact.items():
        stored[key] = value
        error = np.linalg.norm(coarse[key] - value) / np.linalg.norm(value)
        stored[f"{key}/error"] = np.float64(error)
        print(f"{key:18} {value.shape!s:20} {error:.1e}  {value.min():.2f}..{value.max():.2f}")
    np.savez_compressed(FOLDER / "values.npz", **stored)
    torch.save(f.float().state_dict(), FOLDER / "encoder.pth")
    torch.save(g.float().state_dict(), FOLDER / "decoder.pth")


if __name__ == "__main__":
    main()
