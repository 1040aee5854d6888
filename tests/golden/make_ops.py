"""Makes ops.npz: results and gradients of ops, computed in float64 by PyTorch, antialiased resizes
by Pillow in float32.

    python tests/golden/make_ops.py          (needs PyTorch and Pillow; made with 2.13.0 and 13.0.0)

ops.npz holds a JSON list "cases" of {"op", "kinds", "attrs"}, and for case i the arrays "i/x0",
"i/x1", ... (inputs), "i/y" (result), "i/r" (random weights) and "i/g0", "i/g1", ... (gradients of
sum(y * r) to the inputs that have one). Inputs and weights are float32 to keep the file small.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

OUTPUT = Path(__file__).with_name("ops.npz")
rng = np.random.default_rng(20)
arrays: dict[str, np.ndarray] = {}
cases: list[dict] = []


def normal(*shape: int) -> np.ndarray:
    """Return random values."""
    return rng.standard_normal(shape).astype(np.float32)


def add(
    op: str,
    function: Callable[..., torch.Tensor],
    inputs: list[np.ndarray],
    kinds: str,
    fixed: tuple[int, ...] = (),
    **attrs: int | float | str,
) -> None:
    """Add a case; kinds has "m" or "p" per input, fixed lists inputs without gradient."""
    tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in inputs]
    y = function(*tensors)
    r = normal(*y.shape)
    y.backward(torch.tensor(r, dtype=torch.float64))
    number = len(cases)
    names = {"m": "map", "p": "plain"}
    cases.append({"op": op, "kinds": [names[kind] for kind in kinds], "attrs": attrs})
    arrays[f"{number}/y"] = y.detach().numpy()
    arrays[f"{number}/r"] = r
    for i, (x, tensor) in enumerate(zip(inputs, tensors, strict=True)):
        arrays[f"{number}/x{i}"] = x
        if i not in fixed:
            arrays[f"{number}/g{i}"] = tensor.grad.numpy()


def add_convolution(
    stride: int, pad: int, dilation: int, groups: int, mode: str, *kernel: int
) -> None:
    """Add a convolution with bias."""

    def function(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if mode == "reflect":
            x = F.pad(x, (pad,) * 4, mode="reflect")
        inner = 0 if mode == "reflect" else pad
        return F.conv2d(x, w, b.flatten(), stride, inner, dilation, groups)

    inputs = [normal(2, 6, 7, 6), normal(6, 6 // groups, *kernel), normal(1, 6, 1, 1)]
    attrs = {"stride": stride, "pad": pad, "dilation": dilation, "groups": groups}
    add("conv2d", function, inputs, "mpp", **attrs, pad_mode=mode)


def add_convolutions() -> None:
    """Stride, padding, dilation, groups, both border modes."""
    add_convolution(1, 1, 1, 1, "zero", 3, 3)
    add_convolution(2, 1, 1, 1, "zero", 3, 3)
    add_convolution(1, 2, 2, 1, "zero", 3, 3)
    add_convolution(1, 1, 1, 3, "zero", 3, 3)
    add_convolution(2, 2, 1, 6, "zero", 5, 5)
    add_convolution(1, 0, 1, 1, "zero", 1, 1)
    add_convolution(1, 1, 1, 1, "reflect", 3, 3)
    add_convolution(2, 3, 2, 2, "reflect", 3, 2)


def add_pools() -> None:
    """Windows that overlap, leave gaps, are cut; integers, so that maxima are tied."""
    for kernel, stride, pad, ceil in [
        (2, 2, 0, False),
        (2, 2, 0, True),
        (3, 2, 0, True),
        (3, 2, 1, False),
        (3, 2, 1, True),
        (2, 3, 1, True),
        (5, 4, 2, True),
    ]:
        size = {"kernel": kernel, "stride": stride, "ceil": ceil}
        tied = rng.integers(-2, 3, (1, 3, 7, 10)).astype(np.float32)
        add(
            "max_pool",
            lambda x, k=kernel, s=stride, p=pad, c=ceil: F.max_pool2d(x, k, s, p, ceil_mode=c),
            [tied],
            "m",
            **size,
            pad=pad,
        )
        if pad == 0:
            add(
                "avg_pool",
                lambda x, k=kernel, s=stride, c=ceil: F.avg_pool2d(x, k, s, ceil_mode=c),
                [normal(1, 3, 7, 10)],
                "m",
                **size,
            )


def add_resizes_and_pads() -> None:
    """Up, down, to one pixel and from one; every mode of both ops."""
    for shape, size in [
        ((1, 2, 5, 4), (10, 8)),
        ((1, 2, 9, 7), (4, 5)),
        ((1, 2, 4, 6), (7, 1)),
        ((1, 2, 1, 3), (3, 3)),
    ]:
        for mode, corners in [
            ("nearest", None),
            ("bilinear", False),
            ("bilinear", True),
            ("bicubic", False),
            ("bicubic", True),
        ]:
            add(
                "resize",
                lambda x, s=size, m=mode, a=corners: F.interpolate(x, s, mode=m, align_corners=a),
                [normal(*shape)],
                "m",
                h=size[0],
                w=size[1],
                mode=mode,
                align_corners=bool(corners),
            )
        for mode in ("bilinear", "bicubic", "lanczos"):
            add_antialiased(mode, shape, size)
    for mode, name in [("zero", "constant"), ("reflect", "reflect"), ("replicate", "replicate")]:
        add(
            "pad",
            lambda x, m=name: F.pad(x, (3, 1, 0, 2), mode=m),
            [normal(1, 2, 4, 5)],
            "m",
            top=0,
            bottom=2,
            left=3,
            right=1,
            mode=mode,
        )


def add_antialiased(mode: str, shape: tuple[int, ...], size: tuple[int, int]) -> None:
    """Pillow's resize, from that of the unit matrix; its weights are rounded to float32."""

    def side(before: int, after: int) -> torch.Tensor:
        unit = Image.fromarray(np.eye(before, dtype=np.float32))
        weights = unit.resize((before, after), Image.Resampling[mode.upper()])
        return torch.tensor(np.asarray(weights), dtype=torch.float64)

    rows, columns = side(shape[2], size[0]), side(shape[3], size[1])
    attrs = {"h": size[0], "w": size[1], "mode": mode, "antialias": True}
    add("resize", lambda x: rows @ x @ columns.T, [normal(*shape)], "m", **attrs)


def add_norms() -> None:
    """Instance norm, with and without affine part, over the batch; batch norm of a trained net."""
    x, gamma, beta = normal(2, 5, 4, 6), normal(1, 5, 1, 1), normal(1, 5, 1, 1)
    mean, var = normal(1, 5, 1, 1), normal(1, 5, 1, 1) ** 2
    add("instance_norm", lambda x: F.instance_norm(x, eps=1e-5), [x], "m", epsilon=1e-5)
    add(
        "instance_norm",
        lambda x, g, b: F.instance_norm(x, None, None, g.flatten(), b.flatten(), eps=1e-3),
        [x, gamma, beta],
        "mpp",
        epsilon=1e-3,
    )
    add(
        "instance_norm",
        lambda x, g, b: F.batch_norm(x, None, None, g.flatten(), b.flatten(), True, eps=1e-5),
        [x, gamma, beta],
        "mpp",
        epsilon=1e-5,
        whole_batch=True,
    )

    def trained(x: torch.Tensor, *vectors: torch.Tensor) -> torch.Tensor:
        mean, var, gamma, beta = (vector.flatten() for vector in vectors)
        # The statistics of F.batch_norm are buffers: no gradient may be asked of them.
        return F.batch_norm(x, mean.detach(), var.detach(), gamma, beta, eps=1e-3)

    add("batch_norm", trained, [x, mean, var, gamma, beta], "mpppp", fixed=(1, 2), epsilon=1e-3)


def add_activations() -> None:
    """Every nonlinearity, on values to both sides of its kinks and on the kinks."""
    x = 4 * normal(1, 3, 4, 5)
    x.flat[:2] = 0, 6
    for kind, function in {
        "relu": F.relu,
        "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
        "elu": lambda x: F.elu(x, 0.2),
        "relu6": F.relu6,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
    }.items():
        add("activation", function, [x], "m", kind=kind, alpha=0.2)


if __name__ == "__main__":
    add_convolutions()
    add_pools()
    add_resizes_and_pads()
    add_norms()
    add_activations()
    np.savez_compressed(OUTPUT, cases=json.dumps(cases), **arrays)
    print(f"{OUTPUT}: {len(cases)} cases, {OUTPUT.stat().st_size} bytes")
