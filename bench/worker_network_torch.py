"""Worker: one run of a network in PyTorch. Arguments: name, folder, threads, layout, mode."""

from __future__ import annotations

import sys

import torch
from network_modules import build
from network_problem import Problem
from side_by_side import resident_peak, serve

name, folder, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
layout, mode = sys.argv[4:6]
torch.set_num_threads(threads)
before = resident_peak()
problem = Problem(folder)
memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
module = build(name).to(memory_format=memory_format)
run = torch.compile(module) if mode == "compiled" else module
x = torch.from_numpy(problem.input).contiguous(memory_format=memory_format)


def work() -> torch.Tensor:
    """Run once."""
    with torch.inference_mode():
        return run(x)


problem.check(work().numpy())
serve(work, before)
