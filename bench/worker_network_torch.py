"""Worker: one run of a network in PyTorch.

Arguments: name, folder, threads, precision ("fp32", "autocast" to bf16, or "bf16" for all tensors),
layout, mode.
"""

from __future__ import annotations

import sys

import torch
from network_modules import build
from network_problem import Problem
from side_by_side import resident_peak, serve

name, folder, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
precision, layout, mode = sys.argv[4:7]
torch.set_num_threads(threads)
before = resident_peak()
problem = Problem(folder)
memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
dtype = torch.bfloat16 if precision == "bf16" else torch.float32
module = build(name).to(dtype, memory_format=memory_format)
run = torch.compile(module) if mode == "compiled" else module
x = torch.from_numpy(problem.input).to(dtype, memory_format=memory_format)


def work() -> torch.Tensor:
    """Run once."""
    with torch.inference_mode(), torch.autocast("cpu", enabled=precision == "autocast"):
        return run(x)


problem.check(work().float().numpy(), "fp32" if precision == "fp32" else "bf16")
serve(work, before)
