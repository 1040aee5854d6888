"""Writes johnson.npz: outputs and gradients of PyTorch for test_johnson.py.

    python tests/golden/make_johnson.py

Computed in float64 and in float32; `NAME/error` is the relative L2 distance between the two: what
float32 costs PyTorch itself.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).parent)]

import johnson_files  # noqa: E402
from torch_networks import johnson  # noqa: E402

NETWORKS = {
    "pytorch-examples": johnson.pytorch_examples,
    "original": johnson.original,
    "original-batch": johnson.original,
    "original-nearest": partial(johnson.original, upsampling="nearest"),
    "lengstrom": johnson.lengstrom,
}


def run(form, dtype):
    """Return the output and the gradient of sum(output * dy)."""
    arrays = johnson_files.weights(form)
    weights = {key: torch.from_numpy(array).to(dtype) for key, array in arrays.items()}
    x = torch.from_numpy(johnson_files.picture(form)).to(dtype).requires_grad_()
    y = NETWORKS[form](weights, x)
    dy = torch.from_numpy(johnson_files.output_gradient(tuple(y.shape))).to(dtype)
    (dx,) = torch.autograd.grad((y * dy).sum(), x)
    return {"output": y.detach().numpy(), "gradient": dx.numpy()}


def main():
    arrays = {}
    for form in johnson_files.FORMS:
        exact, single = run(form, torch.float64), run(form, torch.float32)
        for name, value in exact.items():
            error = np.linalg.norm(single[name] - value) / np.linalg.norm(value)
            print(f"{form} {name}: {value.shape}, float32 is {error:.1e} off")
            # float32 keeps the file small; its rounding is below what is compared with it
            arrays[f"{form}/{name}"] = value.astype(np.float32)
            arrays[f"{form}/{name}/error"] = error
    np.savez_compressed(Path(__file__).with_suffix("").with_name("johnson.npz"), **arrays)


if __name__ == "__main__":
    main()
