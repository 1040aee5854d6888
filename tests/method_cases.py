"""Rows of op_cases.py for the methods' own kernels: Gram, losses, statistics, AdaIN, vectors."""

import numpy as np
from op_cases import Arrays, Case, Operand, Shape, plain

SCALE = {"scale": 0.3}
NEIGHBOURS = ((0, 1), (2, 1), (1, 0), (1, 2))


def masks(shape: Shape, own: bool = False) -> tuple[tuple[Operand, ...], ...]:
    """Return no mask, and a mask for all pictures or for each its own."""
    n, _, h, w = shape
    return (), (Operand((n if own else 1, 1, h, w), "map" if own else "plain", fill="unit"),)


# Gram matrix and feature loss -------------------------------------------------------------------


def grams(shape: Shape, own: bool = False) -> list[Case]:
    """Return the Gram matrix, plain and masked, with its backward op."""
    n, c, h, w = shape
    x, dg = Operand(shape), plain(n, 1, c, c)
    cases = []
    for mask in masks(shape, own):
        cases.append(Case("gram", (x, *mask), SCALE, terms=h * w, wrt=(0,)))
        cases.append(Case("gram_backward", (x, dg, *mask), SCALE, terms=2 * c, wrt=()))
    return cases


def feature_loss_size(inputs: Arrays, attrs: dict) -> np.ndarray:
    """Return A of scale sum (mask (x - target))^2."""
    x, target, *mask = np.abs(inputs[0]), np.abs(inputs[1]), *inputs[2:]
    return attrs["scale"] * np.sum(((mask[0] if mask else 1) * (x + target)) ** 2)


def feature_loss_backward_size(inputs: Arrays, attrs: dict) -> np.ndarray:
    """Return A of 2 scale dl mask^2 (x - target)."""
    x, target, dl, *mask = np.abs(inputs[0]), np.abs(inputs[1]), np.abs(inputs[2]), *inputs[3:]
    return 2 * attrs["scale"] * dl * (mask[0] if mask else 1) ** 2 * (x + target)


def feature_losses(shape: Shape, own: bool = False, kind: str = "map") -> list[Case]:
    """Return the feature loss, plain and masked, with its backward op."""
    pair = (Operand(shape, kind), Operand(shape, kind))
    count = int(np.prod(shape))
    cases = []
    for mask in masks(shape, own):
        cases += [
            Case(
                "feature_loss",
                (*pair, *mask),
                SCALE,
                terms=count,
                scale=feature_loss_size,
                wrt=(0, 1),
            ),
            Case(
                "feature_loss_backward",
                (*pair, plain(1, 1, 1, 1), *mask),
                SCALE,
                scale=feature_loss_backward_size,
                wrt=(),
            ),
        ]
    return cases


# Losses of pictures -----------------------------------------------------------------------------


def laplacian_size(inputs: Arrays, attrs: dict) -> np.ndarray:
    """Return A of the Laplacian: every term of kernel and mean with a plus sign."""
    x, p = np.abs(inputs[0]), attrs["pool"]
    n, c, h, w = x.shape[0], x.shape[1], x.shape[2] // p, x.shape[3] // p
    pooled = x[:, :, : h * p, : w * p].reshape(n, c, h, p, w, p).mean((3, 5))
    pooled = pooled.sum(1, keepdims=True)
    around = sum(pooled[:, :, i : h - 2 + i, j : w - 2 + j] for i, j in NEIGHBOURS)
    return 4 * pooled[:, :, 1:-1, 1:-1] + around


def laplacian_backward_size(inputs: Arrays, attrs: dict) -> np.ndarray:
    """Return A of the gradient, the adjoint of `laplacian_size`."""
    dy, p = np.abs(inputs[0]), attrs["pool"]
    n, _, h, w = dy.shape
    pooled = np.zeros((n, 1, h + 2, w + 2))
    pooled[:, :, 1:-1, 1:-1] = 4 * dy
    for i, j in NEIGHBOURS:
        pooled[:, :, i : h + i, j : w + j] += dy
    size = np.zeros((n, attrs["c"], attrs["h"], attrs["w"]))
    size[:, :, : (h + 2) * p, : (w + 2) * p] = pooled.repeat(p, 2).repeat(p, 3) / p**2
    return size


def laplacians(shape: Shape, pool: int) -> list[Case]:
    """Return the Laplacian and its backward op."""
    n, c, h, w = shape
    dy = Operand((n, 1, h // pool - 2, w // pool - 2))
    back = {"pool": pool, "c": c, "h": h, "w": w}
    return [
        Case(
            "laplacian",
            (Operand(shape),),
            {"pool": pool},
            terms=5 * c * pool**2,
            scale=laplacian_size,
        ),
        Case("laplacian_backward", (dy,), back, terms=5, scale=laplacian_backward_size, wrt=()),
    ]


def total_variation_size(inputs: Arrays, attrs: dict) -> np.ndarray:
    """Return A of scale sum (difference to the neighbour)^2."""
    x = np.abs(inputs[0])
    down, right = x[:, :, 1:] + x[:, :, :-1], x[..., 1:] + x[..., :-1]
    return attrs["scale"] * (np.sum(down**2) + np.sum(right**2))


def total_variation_backward_size(inputs: Arrays, attrs: dict) -> np.ndarray:
    """Return A of 2 scale dl sum of differences to the neighbours."""
    x, dl = map(np.abs, inputs)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    h, w = x.shape[2:]
    around = sum(padded[:, :, i : h + i, j : w + j] for i, j in NEIGHBOURS)
    return 2 * attrs["scale"] * dl * (4 * x + around)


def total_variations(shape: Shape) -> list[Case]:
    """Return total variation and its backward op."""
    x, count = Operand(shape), int(np.prod(shape))
    return [
        Case("total_variation", (x,), SCALE, terms=2 * count, scale=total_variation_size),
        Case(
            "total_variation_backward",
            (x, plain(1, 1, 1, 1)),
            SCALE,
            terms=4,
            scale=total_variation_backward_size,
            wrt=(),
        ),
    ]


# Statistics and AdaIN ---------------------------------------------------------------------------


def deviation(x: np.ndarray, attrs: dict) -> np.ndarray:
    """Return sqrt(var + epsilon) of each map."""
    var = x.var((2, 3), ddof=int(attrs["unbiased"]), keepdims=True)
    return np.sqrt(var + attrs["epsilon"])


def normalised_size(x: np.ndarray, attrs: dict) -> np.ndarray:
    """Return A of (x - mean) / deviation."""
    return (np.abs(x) + np.abs(x).mean((2, 3), keepdims=True)) / deviation(x, attrs)


def moments_size(inputs: Arrays, attrs: dict) -> np.ndarray:
    """Return A of mean and deviation."""
    (x,) = inputs
    mean, sigma = np.abs(x).mean((2, 3), keepdims=True), deviation(x, attrs)
    return np.concatenate([mean, sigma + mean], 3)


def moments_backward_size(inputs: Arrays, attrs: dict) -> np.ndarray:
    """Return A of dmean / M + ddeviation (x - mean) / (D deviation)."""
    x, moments, d = map(np.abs, inputs)
    pixels = x.shape[2] * x.shape[3]
    slope = d[..., 1:] / ((pixels - int(attrs["unbiased"])) * moments[..., 1:])
    return d[..., :1] / pixels + slope * (x + moments[..., :1])


def adain_size(inputs: Arrays, attrs: dict) -> np.ndarray:
    """Return A of s (sigma_s z + mu_s) + (1 - s) x."""
    x, style, *strength = inputs
    s, style = strength[0] if strength else 1, np.abs(style)
    styled = style[..., 1:] * normalised_size(x, attrs) + style[..., :1]
    return s * styled + (1 - s) * np.abs(x)


def adain_backward_size(inputs: Arrays, attrs: dict) -> np.ndarray:
    """Return A of (1 - s) dy + sigma_s / sigma (g - mean(g) - z sum(g z) / D), g = s dy."""
    dy, x, style, *strength = inputs
    s, dy, z = strength[0] if strength else 1, np.abs(dy), normalised_size(x, attrs)
    divisor = x.shape[2] * x.shape[3] - int(attrs["unbiased"])
    g = s * dy
    inner = g + g.mean((2, 3), keepdims=True) + z * (g * z).sum((2, 3), keepdims=True) / divisor
    return (1 - s) * dy + np.abs(style[..., 1:]) / deviation(x, attrs) * inner


def adain_backward_style_size(inputs: Arrays, attrs: dict) -> np.ndarray:
    """Return A of sum(g) and sum(g z)."""
    dy, x, style, *strength = inputs
    g = (strength[0] if strength else 1) * np.abs(dy)
    axes = (0, 2, 3) if style.shape[0] == 1 else (2, 3)
    sums = [g.sum(axes, keepdims=True), (g * normalised_size(x, attrs)).sum(axes, keepdims=True)]
    return np.concatenate(sums, 3)


def adains(shape: Shape, styles: int, unbiased: bool, own: bool = False) -> list[Case]:
    """Return moments and AdaIN, with and without a strength map, and their backward ops."""
    n, c, h, w = shape
    x, pixels = Operand(shape), h * w
    attrs = {"epsilon": 1e-3, "unbiased": unbiased}
    moments, style = plain(n, c, 1, 2, fill="positive"), plain(styles, c, 1, 2, fill="positive")
    back = (x, moments, plain(n, c, 1, 2))
    cases = [
        Case("moments", (x,), attrs, terms=pixels, scale=moments_size),
        Case("moments_backward", back, attrs, scale=moments_backward_size, wrt=()),
    ]
    for strength in masks(shape, own):
        inputs = (x, x, style, *strength)
        sizes = {
            "adain_backward": adain_backward_size,
            "adain_backward_style": adain_backward_style_size,
        }
        cases.append(Case("adain", inputs[1:], attrs, terms=pixels, scale=adain_size, wrt=(0, 1)))
        cases += [
            Case(op, inputs, attrs, terms=n * pixels, scale=size, wrt=())
            for op, size in sizes.items()
        ]
    return cases


# Vectors ----------------------------------------------------------------------------------------


def vectors(shape: Shape) -> list[Case]:
    """Return dot and axpy."""
    x, alpha = Operand(shape), plain(1, 1, 1, 1)
    return [
        Case("dot", (x, x), terms=int(np.prod(shape))),
        Case("axpy", (alpha, x, x), terms=2),
    ]


METHODS = [
    *grams((1, 16, 12, 12)),
    *grams((2, 20, 7, 9)),
    *grams((2, 5, 11, 3), own=True),
    *grams((1, 72, 5, 5)),
    *grams((2, 8, 20, 19), own=True),
    *grams((1, 3, 1, 1)),
    *feature_losses((2, 20, 7, 9)),
    *feature_losses((2, 3, 13, 5), own=True),
    *feature_losses((1, 33, 4, 4)),
    *feature_losses((1, 3, 79, 80)),
    *feature_losses((2, 1, 20, 20), kind="plain"),
    *laplacians((1, 3, 16, 20), pool=4),
    *laplacians((2, 3, 23, 17), pool=3),
    *laplacians((2, 20, 7, 9), pool=2),
    *laplacians((1, 1, 3, 3), pool=1),
    *total_variations((1, 3, 13, 17)),
    *total_variations((2, 20, 5, 4)),
    *total_variations((1, 2, 1, 6)),
    *total_variations((1, 1, 6, 70)),
    *adains((2, 20, 7, 9), styles=2, unbiased=True, own=True),
    *adains((2, 20, 5, 4), styles=1, unbiased=False),
    *adains((1, 3, 6, 5), styles=1, unbiased=True),
    *adains((3, 17, 3, 2), styles=1, unbiased=True, own=True),
    *adains((2, 50, 17, 19), styles=1, unbiased=True),
    *vectors((2, 20, 5, 7)),
    *vectors((1, 3, 64, 65)),
    *vectors((1, 1, 1, 1)),
]
