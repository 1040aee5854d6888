"""What a run was made from, in a form that tells whether another run is the same."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthstyle import __version__
from depthstyle.errors import CheckpointError, ReproducibilityWarning


def digest(arrays: NDArray[Any] | Mapping[str, NDArray[Any]] | None) -> str | None:
    """Return the SHA-256 of the type, shape and numbers of an array or of several by name."""
    if arrays is None:
        return None
    found = hashlib.sha256()
    for name, array in arrays.items() if isinstance(arrays, Mapping) else [("", arrays)]:
        whole = np.ascontiguousarray(array)
        found.update(f"{name} {whole.dtype.str} {whole.shape}\n".encode())
        found.update(whole.reshape(-1).view(np.uint8))
    return found.hexdigest()


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as they come back from JSON, to compare them with what does."""
    return json.loads(json.dumps(values))


def environment(device: str) -> dict[str, str]:
    """Return what the last bits of a result depend on; the number of threads is no part of it."""
    return {
        "depthstyle": __version__,
        "device": device.partition(",")[0],
        "processor": platform.machine(),
        "numpy": np.__version__,
        "pillow": version("pillow"),
    }


def check_same(
    path: str | os.PathLike[str], found: Mapping[str, Any], expected: Mapping[str, Any]
) -> None:
    """Refuse to go on from a run that was made from something else.

    Raises
    ------
    CheckpointError
        A value differs; the message names the first one.
    """
    for name in {**expected, **found}:
        old, new = found.get(name), expected.get(name)
        if old != new:
            raise CheckpointError(
                f"{path}: {name}: made with {_short(old)}, this run has {_short(new)}; give the "
                "same pictures and settings, or start anew"
            )


def warn_of_other_environment(
    path: str | os.PathLike[str], found: Mapping[str, str], expected: Mapping[str, str]
) -> None:
    """Warn where the last bits may differ."""
    others = [
        f"{name} {found.get(name)}, not {value}"
        for name, value in expected.items()
        if found.get(name) != value
    ]
    if others:
        warnings.warn(
            f"{path}: made with {', '.join(others)}; the result may differ in its last bits",
            ReproducibilityWarning,
            stacklevel=4,
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
