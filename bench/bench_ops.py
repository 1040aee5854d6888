"""Times each convolution of a network beside PyTorch's.

`python bench/bench_ops.py johnson` reads `shapes/johnson.txt`, one line per convolution with how
often it occurs, and prints milliseconds of ours and of PyTorch (the faster of its two layouts), the
ratio, our GFLOP/s, and the sum over the network. Both work in turns in one process; with one thread
it is the processor's time, which other programs disturb least. With `--backward` the gradient to
the input is timed instead. `--precision bf16` takes PyTorch in bf16, and `--peer fp32` our own fp32
kernels in its place. Needs PyTorch beside depthstyle.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from side_by_side import machine

from depthstyle import _core

HERE = Path(__file__).resolve().parent
SHAPES, RESULTS = HERE / "shapes", HERE / "results"
LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}


class Shape(NamedTuple):
    """A line of a list; `before` and `after` are the widths of the border."""

    count: int
    channels: int
    height: int
    width: int
    out: int
    kernel: int
    stride: int
    groups: int
    before: int
    after: int
    mode: str
    up: int

    @property
    def gflop(self) -> float:
        """Multiplications and additions of the direct algorithm."""
        sides = (
            (size * self.up + self.before + self.after - self.kernel) // self.stride + 1
            for size in (self.height, self.width)
        )
        pixels = next(sides) * next(sides)
        return 2e-9 * pixels * self.out * self.channels / self.groups * self.kernel**2


def read(name: str) -> list[Shape]:
    """Return the convolutions of a list."""
    lines = [line.split() for line in (SHAPES / f"{name}.txt").read_text().splitlines()]
    rows = [line for line in lines if line[0].isdigit()]
    return [Shape(*(int(x) if x.isdigit() else x for x in row)) for row in rows]


def arrays(shape: Shape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an input, weights and a bias."""
    rng = np.random.default_rng(0)
    fan_in = shape.channels // shape.groups * shape.kernel**2
    x = rng.standard_normal((1, shape.channels, shape.height, shape.width), np.float32)
    w = rng.standard_normal((shape.out, shape.channels // shape.groups, *[shape.kernel] * 2))
    return x, np.float32(w / fan_in**0.5), rng.standard_normal(shape.out, np.float32)


def ours(
    shape: Shape, args: argparse.Namespace, precision: str
) -> tuple[Callable[[], object], str]:
    """Return our convolution as a call, and its plan."""
    x, w, b = arrays(shape)
    graph = _core.Graph()
    image = graph.variable("x", x, kind="map")
    node = image
    if shape.up > 1:
        size = {"h": shape.height * shape.up, "w": shape.width * shape.up}
        node = graph.resize(node, **size, mode="nearest")
    pad = {"pad": shape.before, "pad_mode": shape.mode}
    if shape.before != shape.after:
        sides = dict(top=shape.before, bottom=shape.after, left=shape.before, right=shape.after)
        node, pad = graph.pad(node, **sides, mode=shape.mode), {}
    weight = graph.constant(w)
    attrs = {**pad, "stride": shape.stride, "groups": shape.groups}
    if args.backward:
        y = graph.conv2d(node, weight, **attrs)
        dy = np.random.default_rng(1).standard_normal(y.shape, np.float32)
        dy = graph.variable("dy", dy, kind="map")
        (y,) = graph.gradient(graph.sum_to(graph.multiply(y, dy)), [image])
    else:
        bias = graph.constant(b.reshape(1, -1, 1, 1))
        y = graph.activation(graph.conv2d(node, weight, bias, **attrs), kind="relu")
    # One pixel: handing over the whole result would take longer than some convolutions do.
    corner = graph.constant(np.ones((1, y.shape[1], 1, 1), np.float32))
    options = {"threads": args.threads, "precision": precision, "cpu_level": args.level}
    plan = graph.compile([graph.conv2d(y, corner, stride=max(y.shape[2:]))], **options)
    return lambda: plan.run({}), plan.dump()


def theirs(
    shape: Shape, args: argparse.Namespace, layout: torch.memory_format
) -> Callable[[], object]:
    """Return PyTorch's convolution as a call."""
    dtype = torch.float32 if args.precision == "fp32" else torch.bfloat16
    x, w, b = (torch.from_numpy(a).to(dtype) for a in arrays(shape))
    x, w = x.contiguous(memory_format=layout), w.contiguous(memory_format=layout)

    def forward(x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if shape.up > 1:
            x = F.interpolate(x, scale_factor=shape.up)
        pad = shape.before
        if shape.mode == "reflect" or shape.before != shape.after:
            sides = (shape.before, shape.after) * 2
            x = F.pad(x, sides, mode="reflect" if shape.mode == "reflect" else "constant")
            pad = 0
        return F.conv2d(x, w, bias, shape.stride, pad, 1, shape.groups)

    if not args.backward:
        return lambda: forward(x, b).relu_()
    x.requires_grad_(True)
    y = forward(x, None)
    dy = torch.randn(y.shape, dtype=dtype).contiguous(memory_format=layout)
    return lambda: torch.autograd.grad(y, x, dy, retain_graph=True)


def seconds(work: Callable[[], object], least: float, clock: Callable[[], float]) -> float:
    """Return the time of one call, from as many as fill `least` seconds."""
    calls, start = 0, clock()
    while calls == 0 or clock() - start < least:
        work()
        calls += 1
    return (clock() - start) / calls


def compare(shape: Shape, args: argparse.Namespace) -> tuple[float, float]:
    """Return seconds of ours and of the peer."""
    clock = time.thread_time if args.threads == 1 else time.perf_counter
    mine, dump = ours(shape, args, args.precision)
    contenders = [mine]
    if args.peer == "torch":
        contenders += [theirs(shape, args, layout) for layout in LAYOUTS.values()]
    elif args.peer == "fp32":
        contenders.append(ours(shape, args, "fp32")[0])
    if args.only is not None:
        print(dump)
    for work in contenders:
        work()
    times = [[seconds(work, args.least, clock) for work in contenders] for _ in range(args.rounds)]
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    return medians[0], min(medians[1:], default=float("nan"))


def main() -> None:
    """Parse, time, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("list", choices=sorted(path.stem for path in SHAPES.glob("*.txt")))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--least", type=float, default=0.02, help="seconds of a turn")
    parser.add_argument("--backward", action="store_true")
    parser.add_argument("--precision", default="fp32", help="ours")
    parser.add_argument("--level", help="ours: the level of the CPU's kernels")
    parser.add_argument("--peer", choices=["torch", "fp32", "none"], default="torch")
    parser.add_argument("--only", type=int, help="the line with this number, and the plan")
    parser.add_argument("--save", metavar="NAME", help="write bench/results/NAME.md")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    total = [0.0, 0.0]
    lines = [f"line  ours ms {args.peer:>6} ms  ratio  GFLOP/s  " + " ".join(Shape._fields)]
    print(lines[0])
    for number, shape in enumerate(read(args.list)):
        if args.only not in (None, number):
            continue
        mine, peer = compare(shape, args)
        total = [total[0] + shape.count * mine, total[1] + shape.count * peer]
        times = f"{number:4} {mine * 1e3:8.3f} {peer * 1e3:9.3f} {peer / mine:6.2f}"
        lines.append(f"{times} {shape.gflop / mine:8.0f}  " + " ".join(map(str, shape)))
        print(lines[-1], flush=True)
    lines.append(f"sum  {total[0] * 1e3:8.1f} {total[1] * 1e3:9.1f} {total[1] / total[0]:6.2f}")
    print(lines[-1])
    if args.save:
        command = f"python bench/bench_ops.py {args.list} --threads {args.threads}"
        command += " --backward" if args.backward else ""
        for name in ("precision", "level", "peer"):
            if getattr(args, name) != parser.get_default(name):
                command += f" --{name} {getattr(args, name)}"
        text = "\n".join(f"    {line}" for line in ["$ " + command, *lines])
        clock = "processor time" if args.threads == 1 else "time"
        head = f"Machine: {machine()}. Medians of {args.rounds} turns of {clock}.\n\n"
        (RESULTS / f"{args.save}.md").write_text(head + text + "\n")


if __name__ == "__main__":
    main()
