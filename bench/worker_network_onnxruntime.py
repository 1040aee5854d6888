"""Worker: one run of a network in ONNX Runtime. Arguments: name, folder, threads."""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime
from network_problem import Problem
from side_by_side import resident_peak, serve

before = resident_peak()
problem = Problem(sys.argv[2])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[3])
session = onnxruntime.InferenceSession(problem.onnx, options, providers=["CPUExecutionProvider"])
feeds = {session.get_inputs()[0].name: problem.input}


def work() -> np.ndarray:
    """Run once."""
    return session.run(None, feeds)[0]


problem.check(work())
serve(work, before)
