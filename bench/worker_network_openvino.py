"""Worker: one run of a network in OpenVINO. Arguments: name, folder, threads, precision."""

from __future__ import annotations

import sys

import numpy as np
import openvino
from network_problem import Problem
from side_by_side import resident_peak, serve

before = resident_peak()
problem, precision = Problem(sys.argv[2]), sys.argv[4]
core = openvino.Core()
# Left alone it would compute in bfloat16 where the processor can, whatever was asked for here.
settings = {
    "INFERENCE_NUM_THREADS": int(sys.argv[3]),
    "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
    "PERFORMANCE_HINT": "LATENCY",
}
request = core.compile_model(problem.onnx, "CPU", settings).create_infer_request()


def work() -> np.ndarray:
    """Run once."""
    return request.infer([problem.input])[0]


problem.check(work(), precision)
serve(work, before)
