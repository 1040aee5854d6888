from .colour import match_colour, match_luminance
from .errors import (
    BackendUnavailable,
    Busy,
    DepthstyleError,
    DepthstyleWarning,
    ImageError,
    NumericalError,
    WeightsError,
)
from .images import Picture, as_image, read_image, read_picture, read_recipe, resize, write_image

__version__: str

__all__ = [
    "BackendUnavailable",
    "Busy",
    "DepthstyleError",
    "DepthstyleWarning",
    "ImageError",
    "NumericalError",
    "Picture",
    "WeightsError",
    "as_image",
    "match_colour",
    "match_luminance",
    "read_image",
    "read_picture",
    "read_recipe",
    "resize",
    "write_image",
]
