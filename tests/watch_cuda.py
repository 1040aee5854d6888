"""Small rows of every op and one optimisation step on a GPU, for compute-sanitizer to watch.

    compute-sanitizer --tool memcheck python tests/watch_cuda.py

Values are compared elsewhere; this only has to reach every kernel, in fp32 and in bf16.
"""

import sys

import numpy as np
from cuda_cases import CASES, RATE, make_iteration
from test_ops import Program

from depthstyle import _core, devices

ROWS = 2
"""Of each op: the smallest ones."""


def size(case):
    """Elements of a row's inputs."""
    return sum(int(np.prod(operand.shape)) for operand in case.operands)


def rows():
    """Return the rows that are run."""
    ops = {case.op for case in CASES}
    return [
        case
        for op in sorted(ops)
        for case in sorted((case for case in CASES if case.op == op), key=size)[:ROWS]
    ]


def main():
    """Load the library, or that of the command line, and run everything once."""
    if sys.argv[1:]:
        _core.load_cuda(sys.argv[1])
    else:
        devices.load_cuda()
    for precision in ("fp32", "bf16"):
        for case in rows():
            inputs = case.inputs()
            Program(case, inputs, backend="cuda", precision=precision)(inputs)
        step = make_iteration(backend="cuda", precision=precision)
        for _ in range(2):
            step.run(RATE)
    print(f"{2 * len(rows())} rows")


if __name__ == "__main__":
    main()
