"""The state of a `Session` as the contents of a checkpoint, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from depthstyle.checkpoint import Contents
from depthstyle.errors import CheckpointError
from depthstyle.fingerprint import (
    as_json,
    check_same,
    digest,
    environment,
    warn_of_other_environment,
)
from depthstyle.interrupts import HeldInterrupt
from depthstyle.objective import style_groups
from depthstyle.optimisers import Pictures

if TYPE_CHECKING:
    from depthstyle.session import Session

Array = NDArray[np.float32]

_PICTURES = ("image", "good", "best")
_OPTIMISER = "optimiser."


def of(session: Session) -> Contents:
    """Return all that the next iteration of a session depends on; the arrays are views."""
    optimiser = None if session._optimiser is None else session._optimiser.state()
    values = {
        "made_from": as_json(_made_from(session)),
        "environment": environment(session.device),
        "iteration": session.iteration,
        "stage": session._stage,
        "stage_iteration": session._stage_iteration,
        "weights": dict(session.weights),
        "best_weights": dict(session._best_weights),
        "losses": list(session.losses),
        "optimiser": optimiser and optimiser.values,
    }
    pictures = session._present_pictures()
    tensors = {name: getattr(pictures, name) for name in _PICTURES}
    tensors["best_total"] = np.array([pictures.least])
    tensors["losses"] = np.array(list(session.losses.values()), np.float64)
    if optimiser is not None:
        tensors |= {_OPTIMISER + name: array for name, array in optimiser.tensors.items()}
    return Contents(values, tensors)


def restore(
    session: Session,
    contents: Contents,
    path: str | os.PathLike[str],
    interrupt: HeldInterrupt,
) -> None:
    """Let a session go on from a state, or leave it as it is.

    Parameters
    ----------
    session : Session
        Made from the same pictures and settings as the one whose state it is.
    contents : Contents
        The state.
    path : path
        Its file, for messages.
    interrupt : HeldInterrupt
        Holds Ctrl-C back while the session changes.

    Raises
    ------
    CheckpointError
        The state is of another session.
    """
    values, tensors = contents.values, contents.tensors
    try:
        check_same(path, values["made_from"], as_json(_made_from(session)))
        with interrupt.released():
            prepared = _restored_stage(session, values, tensors)
        losses = dict(zip(values["losses"], tensors["losses"].tolist(), strict=True))
        pictures = Pictures(*(tensors[k] for k in _PICTURES), tensors["best_total"].item())
        if prepared[1] is not None:
            prepared[1].pictures = pictures
        counts = [values[name] for name in ("iteration", "stage", "stage_iteration")]
        weights, best_weights = values["weights"], values["best_weights"]
    except CheckpointError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: is no state of a session ({error!r})") from error
    session._objective, session._optimiser = prepared
    session.iteration, session._stage, session._stage_iteration = counts
    session.weights, session._best_weights = weights, best_weights
    session.losses, session._pictures = losses, pictures
    warn_of_other_environment(path, values["environment"], environment(session.device))


def _restored_stage(
    session: Session, values: Mapping[str, Any], tensors: Mapping[str, Array]
) -> tuple[Any, Any]:
    """Build the plan of the stage that the state was at, with the optimiser's memory."""
    if values["optimiser"] is None:
        return None, None
    objective, optimiser = session._prepare_stage(
        values["stage"], tensors["image"], session._engine
    )
    named = {
        name.removeprefix(_OPTIMISER): array
        for name, array in tensors.items()
        if name.startswith(_OPTIMISER)
    }
    optimiser.restore(Contents(values["optimiser"], named))
    return objective, optimiser


def _made_from(session: Session) -> dict[str, Any]:
    """Return everything that the result depends on, large things as their SHA-256."""
    made_from = {
        **session.preset.as_dict(),
        "precision": session._engine.effective_precision,
        "network": session.perception.network.name,
        "network_weights": session._weights_digest,
        "depth_network_weights": session._depth_weights_digest,
        "content": digest(session._content),
        "style_scale": session._style_scale,
        "preserve_luminance": session._preserve_luminance,
        "start": session._start_digest,
        "extra": sorted(session._extra),
    }
    styles = session._styles
    for name, style in zip(style_groups(len(styles)), styles, strict=True):
        made_from[f"picture of {name}"] = digest(style)
    for stage in session._stages:
        size = "x".join(map(str, stage.size))
        made_from[f"content mask at {size}"] = digest(stage.content_masks)
        for name, masks in zip(style_groups(len(styles)), stage.style_masks, strict=True):
            made_from[f"mask of {name} at {size}"] = digest(masks)
    return made_from
