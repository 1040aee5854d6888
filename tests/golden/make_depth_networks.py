"""Writes depth_networks.npz: outputs and gradients of PyTorch for test_depth_networks.py.

    python tests/golden/make_depth_networks.py

Every quantity is computed in float64, which is stored, and in float32; `NAME/error` is the
relative L2 distance between the two, what float32 costs PyTorch itself, as the median of several
inputs. `NAME/worst` is the largest: in some inputs rounding turns a ReLU the other way, which
changes the whole gradient.
"""

import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).parent)]

import depth_weights  # noqa: E402
from torch_networks import depth  # noqa: E402

COUNTER = ".num_batches_tracked"


INPUTS = range(7, 12)


def outputs(name, seed, dtype):
    """Outputs by name, and the gradient of sum(y * dy) to the input."""
    module = depth.build(name, depth_weights.NARROW)
    arrays = depth_weights.weights(name)
    missing = module.load_state_dict(
        {key: torch.from_numpy(array) for key, array in arrays.items()}, strict=False
    )
    unknown = [key for key in missing.missing_keys if not key.endswith(COUNTER)]
    assert not unknown and not missing.unexpected_keys, missing
    module.to(dtype)
    x = torch.from_numpy(depth_weights.input_of(name, seed)).to(dtype).requires_grad_()
    found = module(x)
    if not isinstance(found, dict):
        found = {"depth": found}
    total = sum(
        (y * torch.from_numpy(depth_weights.direction(y.shape))).sum() for y in found.values()
    )
    (gradient,) = torch.autograd.grad(total, x)
    found = {depth_weights.label(key): y.detach() for key, y in found.items()}
    return {**found, "gradient": depth_weights.thinned(gradient)}


def distance(found, wanted):
    return float((found.double() - wanted).norm() / wanted.norm())


def check_whole(name):
    """The published module has the keys and shapes of the table."""
    state = depth.build(name).state_dict()
    found = {key: tuple(value.shape) for key, value in state.items() if not key.endswith(COUNTER)}
    assert found == depth_weights.SHAPES[name](), name


def main():
    golden = {}
    for name in depth_weights.SHAPES:
        check_whole(name)
        exact = {seed: outputs(name, seed, torch.float64) for seed in INPUTS}
        rounded = {seed: outputs(name, seed, torch.float32) for seed in INPUTS}
        for key, value in exact[INPUTS[0]].items():
            errors = [distance(rounded[seed][key], exact[seed][key]) for seed in INPUTS]
            golden[f"{name}/{key}"] = value.numpy()
            golden[f"{name}/{key}/error"] = np.median(errors)
            golden[f"{name}/{key}/worst"] = np.max(errors)
            print(
                f"{name}/{key}: {tuple(value.shape)}, float32 errors", *map("{:.0e}".format, errors)
            )
    np.savez_compressed(Path(__file__).with_name("depth_networks.npz"), **golden)


if __name__ == "__main__":
    main()
