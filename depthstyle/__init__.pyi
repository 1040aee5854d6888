from . import evaluation, kernels, networks, study, weights
from ._core import get_num_threads, set_num_threads
from .colour import match_colour, match_luminance
from .depth import (
    DepthMap,
    as_depth,
    depth_picture,
    read_depth,
    read_depth_map,
    strength_map,
    write_depth,
)
from .depth_encodings import Calibration, read_calibration
from .depth_estimation import DepthEstimator, estimate_depth, resolve_depth
from .errors import (
    BackendUnavailable,
    Busy,
    CheckpointError,
    DepthstyleError,
    DepthstyleWarning,
    DeviceLost,
    DeviceOutOfMemory,
    ImageError,
    NumericalError,
    OutOfMemory,
    ReproducibilityWarning,
    WeightsError,
)
from .estimates import Estimate, estimate
from .images import Picture, as_image, read_image, read_picture, read_recipe, resize, write_image
from .masks import depth_mask
from .methods import stylize
from .nyu import NyuDepth
from .parameter_sweep import sweep
from .plots import comparison_grid, contact_sheet, loss_curves
from .session import Session
from .styles import make_style

__version__: str

__all__ = [
    "BackendUnavailable",
    "Busy",
    "Calibration",
    "CheckpointError",
    "DepthEstimator",
    "DepthMap",
    "DepthstyleError",
    "DepthstyleWarning",
    "DeviceLost",
    "DeviceOutOfMemory",
    "Estimate",
    "ImageError",
    "NumericalError",
    "NyuDepth",
    "OutOfMemory",
    "Picture",
    "ReproducibilityWarning",
    "Session",
    "WeightsError",
    "as_depth",
    "as_image",
    "comparison_grid",
    "contact_sheet",
    "depth_mask",
    "depth_picture",
    "estimate",
    "estimate_depth",
    "evaluation",
    "get_num_threads",
    "kernels",
    "loss_curves",
    "make_style",
    "match_colour",
    "match_luminance",
    "networks",
    "read_calibration",
    "read_depth",
    "read_depth_map",
    "read_image",
    "read_picture",
    "read_recipe",
    "resize",
    "resolve_depth",
    "set_num_threads",
    "strength_map",
    "study",
    "stylize",
    "sweep",
    "weights",
    "write_depth",
    "write_image",
]
