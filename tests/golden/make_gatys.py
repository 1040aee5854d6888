"""Writes gatys.npz: features, losses, gradients and trajectories of PyTorch for test_golden.py.

    python tests/golden/make_gatys.py

Every quantity is computed in float64, which is stored, and in float32; `NAME/error` is the
relative L2 distance between the two: what float32 costs PyTorch itself.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import seeded  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONTENT = {"vgg16": "relu4_2", "vgg19": "relu4_2", "squeezenet1_1": "fire2"}
VGG_STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
STYLE = {"vgg16": VGG_STYLE, "vgg19": VGG_STYLE}
STYLE["squeezenet1_1"] = ("relu1", "fire3", "fire4", "fire5")
STEPS = 10
RATE = 0.05
TV_WEIGHT, LAPLACIAN_WEIGHT, CONTENT_WEIGHT = 0.1, 0.5, 0.2
NORMALISATIONS = {
    # content, Gram, style and pixel factors of C, M and the number of terms
    "gatys": (lambda c, m: 0.5, lambda c, m: 1, lambda c, m: 0.25 / (c * m) ** 2, lambda n: 1),
    "johnson": (lambda c, m: 1 / (c * m), lambda c, m: 1 / (c * m), lambda c, m: 1, lambda n: 1),
    "sum": (lambda c, m: 1, lambda c, m: 1, lambda c, m: 1, lambda n: 1),
    "size-invariant": (
        *(lambda c, m: 1 / (c * m), lambda c, m: 1 / m, lambda c, m: 1 / c**2),
        lambda n: 1 / n,
    ),
}


def vgg(name, weights, x, last):
    maps, index = {}, 0
    for block, count in enumerate(seeded.VGG_BLOCKS[name], start=1):
        for k in range(1, count + 1):
            key = f"features.{index}"
            x = F.relu(F.conv2d(x, weights[f"{key}.weight"], weights[f"{key}.bias"], padding=1))
            maps[f"relu{block}_{k}"] = x
            if last in maps:
                return maps
            index += 2
        x = F.max_pool2d(x, 2)
        index += 1
    return maps


def squeezenet(weights, x):
    def conv(key, x, **options):
        return F.relu(F.conv2d(x, weights[f"{key}.weight"], weights[f"{key}.bias"], **options))

    maps = {}
    x = maps["relu1"] = conv("features.0", x, stride=2)
    for index, number in ((3, 2), (4, 3), (6, 4), (7, 5)):
        if index in (3, 6):
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        key = f"features.{index}"
        x = conv(f"{key}.squeeze", x)
        x = torch.cat([conv(f"{key}.expand1x1", x), conv(f"{key}.expand3x3", x, padding=1)], dim=1)
        maps[f"fire{number}"] = x
    return maps


def features(name, weights, x):
    return squeezenet(weights, x) if name == "squeezenet1_1" else vgg(name, weights, x, "relu5_1")


def to_input(image, dtype):
    planes = torch.from_numpy(image.transpose(2, 0, 1)[None].copy()).to(dtype)
    return (planes - planes.new_tensor(MEAN).view(1, 3, 1, 1)) / planes.new_tensor(STD).view(
        1, 3, 1, 1
    )


def gram(f, scale, mask=None):
    eta = 1
    if mask is not None:
        f, eta = f * mask, mask.mean() ** 2
    rows = f.flatten(2)[0]
    return scale / eta * rows @ rows.T


def laplacian(x, pool):
    kernel = x.new_tensor([[0, -1, 0], [-1, 4, -1], [0, -1, 0]]).expand(1, 3, 3, 3)
    return F.conv2d(F.avg_pool2d(x, pool), kernel)


def total_variation(x):
    return (x[:, :, 1:] - x[:, :, :-1]).square().sum() + (x[..., 1:] - x[..., :-1]).square().sum()


class Problem:
    """The losses of one network for the seeded pictures, in one precision."""

    def __init__(self, name, dtype, masked):
        self.name, self.dtype = name, dtype
        self.weights = {k: torch.from_numpy(v).to(dtype) for k, v in seeded.weights(name).items()}
        self.content = to_input(seeded.picture(1), dtype)
        self.start = to_input(seeded.picture(3), dtype)
        with torch.no_grad():
            self.wanted = features(name, self.weights, self.content)[CONTENT[name]]
            style = features(name, self.weights, to_input(seeded.picture(2), dtype))
            self.grams = {
                key: gram(style[key], 1) / style[key][0, 0].numel() for key in STYLE[name]
            }
        self.masks = {}
        if masked:
            for key, value in style.items():
                _, _, h, w = value.shape
                self.masks[key] = torch.from_numpy(seeded.layer_mask(h, w)).to(dtype)

    def features(self, x):
        return features(self.name, self.weights, x)

    def losses(self, x, normalisation):
        """Every loss without its weight, in the order content, style by layer, tv, laplacian."""
        content, gram_scale, style, pixel = NORMALISATIONS[normalisation]
        maps = self.features(x)
        f = maps[CONTENT[self.name]]
        mask = self.masks.get(CONTENT[self.name], torch.ones((), dtype=self.dtype))
        _, c, h, w = f.shape
        values = [content(c, h * w) * (mask * (f - self.wanted)).square().sum()]
        for key in STYLE[self.name]:
            f, mask = maps[key], self.masks.get(key)
            _, c, h, w = f.shape
            scale, target = gram_scale(c, h * w), self.grams[key]
            if mask is not None and normalisation == "size-invariant":
                target = target * (mask.square().mean() / mask.mean() ** 2)
            error = gram(f, scale, mask) - scale * h * w * target
            values.append(style(c, h * w) * error.square().sum())
        values.append(pixel(x.numel()) * total_variation(x))
        edges, wanted = laplacian(x, 4), laplacian(self.content, 4)
        values.append(pixel(edges.numel()) * (edges - wanted).square().sum())
        return values

    def total(self, x):
        content, *style, tv, edges = self.losses(x, "size-invariant")
        return CONTENT_WEIGHT * content + sum(style) + TV_WEIGHT * tv + LAPLACIAN_WEIGHT * edges

    def gradient(self, x):
        x = x.clone().requires_grad_()
        return torch.autograd.grad(self.total(x), x)[0]

    def trajectory(self, optimiser):
        """The pictures after each step and the losses before it."""
        x = self.start.clone().requires_grad_()
        low = to_input(np.zeros((1, 1, 3), np.float32), self.dtype)
        high = to_input(np.ones((1, 1, 3), np.float32), self.dtype)
        kind = torch.optim.Adam if optimiser == "adam" else torch.optim.LBFGS
        options = (
            {"lr": RATE}
            if optimiser == "adam"
            else {
                **{"lr": 1, "max_iter": 1, "history_size": 100},
                **{"tolerance_grad": 0, "tolerance_change": 0},
            }
        )
        stepper, losses = kind([x], **options), []

        def closure():
            stepper.zero_grad()
            loss = self.total(x)
            loss.backward()
            losses.append(loss.item())
            return loss

        for _ in range(STEPS):
            stepper.step(closure)
            if optimiser == "adam":
                x.data.clamp_(low, high)
        return x.detach(), torch.tensor(losses)


def quantities(name, dtype):
    """All golden values of one network in one precision."""
    plain, masked = Problem(name, dtype, False), Problem(name, dtype, True)
    found = {}
    with torch.no_grad():
        for key, value in plain.features(plain.start).items():
            if key in (CONTENT[name], *STYLE[name]):
                found[f"features/{key}"] = value[:, ::16]
        for normalisation in NORMALISATIONS:
            for kind, problem in (("plain", plain), ("masked", masked)):
                values = problem.losses(problem.start, normalisation)
                found[f"losses/{normalisation}/{kind}"] = torch.stack(values)
    found["gradient/plain"] = plain.gradient(plain.start)
    found["gradient/masked"] = masked.gradient(masked.start)
    for optimiser in ("adam", "lbfgs"):
        found[f"{optimiser}/image"], found[f"{optimiser}/losses"] = plain.trajectory(optimiser)
    return found


def main():
    golden = {}
    for name in CONTENT:
        exact = quantities(name, torch.float64)
        rounded = quantities(name, torch.float32)
        for key, value in exact.items():
            error = (rounded[key].double() - value.double()).norm() / value.double().norm()
            golden[f"{name}/{key}"] = value.double().numpy()
            golden[f"{name}/{key}/error"] = error.numpy()
            print(f"{name}/{key}: {tuple(value.shape)}, float32 error {error:.1e}")
    np.savez_compressed(Path(__file__).with_name("gatys.npz"), **golden)


if __name__ == "__main__":
    main()
