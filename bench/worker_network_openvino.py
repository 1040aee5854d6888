"""Worker: one run of a network in OpenVINO. Arguments: name, folder, threads."""

from __future__ import annotations

import sys

import numpy as np
import openvino
from network_problem import Problem
from side_by_side import resident_peak, serve

before = resident_peak()
problem = Problem(sys.argv[2])
core = openvino.Core()
# Left alone it computes in bfloat16 where the processor can.
settings = {
    "INFERENCE_NUM_THREADS": int(sys.argv[3]),
    "INFERENCE_PRECISION_HINT": "f32",
    "PERFORMANCE_HINT": "LATENCY",
}
request = core.compile_model(problem.onnx, "CPU", settings).create_infer_request()


def work() -> np.ndarray:
    """Run once."""
    return request.infer([problem.input])[0]


problem.check(work())
serve(work, before)
