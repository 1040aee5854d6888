from .errors import (
    BackendUnavailable,
    Busy,
    DepthstyleError,
    ImageError,
    NumericalError,
    WeightsError,
)

__version__: str

__all__ = [
    "BackendUnavailable",
    "Busy",
    "DepthstyleError",
    "ImageError",
    "NumericalError",
    "WeightsError",
]
