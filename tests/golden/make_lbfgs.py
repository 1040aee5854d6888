"""Writes lbfgs.npz: positions, losses and gradients of torch.optim.LBFGS without line search.

Run ``python tests/golden/make_lbfgs.py`` where PyTorch is installed (written with 2.13).
"""

from pathlib import Path

import numpy as np
import torch

STEPS = 24


def quadratic(x):
    """A bowl whose axes differ by a factor of 30."""
    curvature = torch.logspace(0, np.log10(30), len(x))
    return 0.5 * (curvature * (x - 1) ** 2).sum()


def rosenbrock(x):
    return (10 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def trajectory(function, start, history, rate):
    x = torch.tensor(start, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [x], lr=rate, max_iter=1, history_size=history, tolerance_grad=0, tolerance_change=0
    )
    record = {"x": [], "loss": [], "gradient": []}

    def closure():
        optimiser.zero_grad()
        loss = function(x)
        loss.backward()
        record["x"].append(x.detach().numpy().copy())
        record["loss"].append(loss.item())
        record["gradient"].append(x.grad.numpy().copy())
        return loss

    for _ in range(STEPS + 1):
        optimiser.step(closure)
    return record


def main():
    rng = np.random.default_rng(5)
    cases = {
        "quadratic": (quadratic, rng.standard_normal(37).astype(np.float32), 100, 1.0),
        "short_history": (quadratic, rng.standard_normal(37).astype(np.float32), 4, 1.0),
        "rosenbrock": (rosenbrock, rng.uniform(-1, 1, 12).astype(np.float32), 100, 0.5),
    }
    arrays = {}
    for name, (function, start, history, rate) in cases.items():
        for key, value in trajectory(function, start, history, rate).items():
            arrays[f"{name}_{key}"] = np.array(value, np.float64 if key == "loss" else np.float32)
        arrays[f"{name}_settings"] = np.array([history, rate])
    np.savez_compressed(Path(__file__).with_name("lbfgs.npz"), **arrays)


if __name__ == "__main__":
    main()
