"""Pictures: read from files, check as arrays, resize, write with the recipe that made them.

Everywhere in depthstyle a picture is a float32 array (H, W, 3) of sRGB values in [0, 1].
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depthstyle.errors import ImageError
from depthstyle.files import write_atomically
from depthstyle.picture_codec import (
    DEEP,
    LONGEST,
    MAX_PIXELS,
    WRITABLE,
    PathLike,
    Picture,
    as_rgb,
    decode_picture,
    encode_picture,
    open_picture,
    recipe_text,
    to_unit,
)


def read_image(
    path: PathLike, *, background: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> NDArray[np.float32]:
    """Read a picture of any common format and mode.

    EXIF orientation is applied, an embedded ICC profile is converted to sRGB, the first frame of
    an animation is taken (with a warning), and transparency is laid over `background`.

    Parameters
    ----------
    path : path
        PNG, JPEG, TIFF, WebP, GIF, BMP, PNM, TGA, JPEG 2000, AVIF, or HEIC where the package
        pillow-heif is installed; 8 or 16 bits per channel.
    background : (float, float, float), optional
        sRGB colour in [0, 1] seen through transparent parts; white by default.

    Returns
    -------
    float32 (H, W, 3)
        sRGB in [0, 1].

    Raises
    ------
    ImageError
        The file is missing, is no picture, is damaged, or has more than `MAX_PIXELS` pixels.

    See Also
    --------
    read_picture : The same with the alpha channel, the bit depth and the resolution.
    """
    picture = read_picture(path)
    return flatten(picture.rgb, picture.alpha, background)


def read_picture(path: PathLike) -> Picture:
    """Read a picture with its alpha channel, bit depth and resolution.

    Parameters
    ----------
    path : path
        As for `read_image`.

    Returns
    -------
    Picture

    Raises
    ------
    ImageError
        As for `read_image`.
    """
    with open_picture(path) as file:
        try:
            return decode_picture(file, str(path))
        except ImageError:
            raise
        except Exception as error:  # decoders raise nearly anything on damaged data
            raise ImageError(f"{path}: damaged or unsupported picture ({error})") from error


def read_recipe(path: PathLike) -> dict[str, Any] | None:
    """Read the recipe that `write_image` stored in a picture.

    Parameters
    ----------
    path : path
        A PNG, JPEG, TIFF or WebP file.

    Returns
    -------
    dict or None
        The recipe, or None where the picture carries none.

    Raises
    ------
    ImageError
        The file is missing or is no picture.
    """
    with open_picture(path) as file:
        text = recipe_text(file)
    if text is None:
        return None
    try:
        recipe = json.loads(text)
    except ValueError as error:
        raise ImageError(f"{path}: its depthstyle recipe is damaged ({error})") from error
    if not isinstance(recipe, dict):
        raise ImageError(f"{path}: its depthstyle recipe is damaged (no JSON object)")
    return recipe


def write_image(
    path: PathLike,
    image: ArrayLike,
    *,
    recipe: Mapping[str, Any] | None = None,
    bits: Literal[8, 16] = 8,
    alpha: ArrayLike | None = None,
    dpi: tuple[float, float] | None = None,
) -> None:
    """Write a picture, tagged as sRGB; the file appears whole or not at all.

    Parameters
    ----------
    path : path
        The suffix chooses the format: ``.png``, ``.tif`` (8 or 16 bits), ``.jpg``, ``.webp``.
    image : array (H, W) or (H, W, 3)
        What `as_image` accepts: floats in [0, 1], uint8 or uint16.
    recipe : mapping, optional
        What made the picture, as JSON values; `read_recipe` gives it back.
    bits : {8, 16}, optional
        Bits per channel.
    alpha : array (H, W), optional
        Opacity in [0, 1].
    dpi : (float, float), optional
        Horizontal and vertical resolution in pixels per inch.

    Raises
    ------
    ImageError
        `image` is not a finite picture, the format cannot hold what is asked, or the file cannot
        be written. Nothing is written then, and an older file stays as it is.
    """
    check_output(path, bits=bits, alpha=alpha is not None)
    if dpi is not None and not all(1 <= value <= 1e5 for value in dpi):
        raise ImageError(f"dpi={dpi!r}: must be two numbers from 1 to 100000")
    rgb = as_image(image)
    samples = rgb if alpha is None else np.dstack([rgb, _as_alpha(alpha, rgb.shape[:2])])
    levels = (1 << bits) - 1
    pixels = np.rint(samples * levels).astype(np.uint8 if bits == 8 else np.uint16)
    text = None if recipe is None else _recipe_json(recipe)
    data = encode_picture(pixels, Path(path).suffix.lower(), text, dpi)
    try:
        write_atomically(path, data)
    except OSError as error:
        raise ImageError(f"{path}: cannot be written ({error.strerror or error})") from error


def check_output(path: PathLike, *, bits: int = 8, alpha: bool = False, longest: int = 1) -> None:
    """Check before long work that `write_image` will be able to write a file.

    Parameters
    ----------
    path : path
        The file that will be written.
    bits : int, optional
        Bits per channel.
    alpha : bool, optional
        Whether an alpha channel will be written.
    longest : int, optional
        Longer side of the picture in pixels.

    Raises
    ------
    ImageError
        The suffix is unknown, the format cannot hold `bits`, `alpha` or the size, the folder is
        missing or read-only, or `path` is a folder.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in WRITABLE:
        raise ImageError(f"{path}: unknown picture suffix {suffix!r}; use {', '.join(WRITABLE)}")
    if bits not in (8, 16):
        raise ImageError(f"bits={bits!r}: must be 8 or 16")
    if bits == 16 and suffix not in DEEP:
        raise ImageError(f"{path}: {suffix} holds 8 bits only; use {', '.join(DEEP)} for 16")
    if alpha and suffix in (".jpg", ".jpeg"):
        raise ImageError(f"{path}: JPEG holds no transparency; use .png")
    if longest > LONGEST.get(suffix, longest):
        raise ImageError(
            f"{path}: {suffix} holds sides of {LONGEST[suffix]} pixels at most, not {longest}; "
            "use .png"
        )
    try:
        is_folder, has_folder = target.is_dir(), target.parent.is_dir()
        may_write = os.access(target.parent, os.W_OK)
    except OSError as error:
        raise ImageError(f"{path}: cannot be written ({error})") from error
    if "\0" in str(path):
        raise ImageError(f"{path}: cannot be written (null byte in the name)")
    if is_folder:
        raise ImageError(f"{path}: is a folder; name a file in it")
    if not has_folder:
        raise ImageError(f"{path}: folder {target.parent} does not exist; create it first")
    if not may_write:
        raise ImageError(f"{path}: folder {target.parent} is read-only; choose another")


def as_image(array: ArrayLike, name: str = "image") -> NDArray[np.float32]:
    """Turn an array into a picture, or refuse it.

    Parameters
    ----------
    array : array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)
        Floats in [0, 1], uint8 in 0..255, uint16 in 0..65535 or bool; any strides and byte order.
        A fourth channel is alpha and is laid over white. The input is never changed.
    name : str, optional
        What the error messages call it.

    Returns
    -------
    float32 (H, W, 3)
        A new C-contiguous array of values in [0, 1]; grey is repeated in R, G and B.

    Raises
    ------
    ImageError
        Another shape or dtype, an empty array, masked values, NaN, infinity, or values outside
        [0, 1].
    """
    samples = _as_array(array, name)
    if samples.ndim == 2:
        samples = samples[..., None]
    if samples.ndim == 3 and samples.shape[0] in (1, 3, 4) and samples.shape[2] not in (1, 3, 4):
        raise ImageError(
            f"{name}: shape {samples.shape} has its channels first; use {name}.transpose(1, 2, 0)"
        )
    if samples.ndim != 3 or samples.shape[2] not in (1, 3, 4):
        raise ImageError(f"{name}: shape {np.shape(array)} is no picture; use (H, W) or (H, W, 3)")
    if samples.size == 0:
        raise ImageError(f"{name}: shape {np.shape(array)} is empty; use at least one pixel")
    unit = to_unit(samples, name)
    alpha = unit[..., 3] if unit.shape[2] == 4 else None
    return flatten(as_rgb(unit[..., :3]), alpha, (1.0, 1.0, 1.0))


def check_size(image: NDArray[Any], minimum: int, name: str = "image") -> None:
    """Refuse a picture or map that is too small for a method.

    Parameters
    ----------
    image : array (H, W, ...)
        The picture or map.
    minimum : int
        The smallest height and width in pixels that the method can take.
    name : str, optional
        What the error message calls it.

    Raises
    ------
    ImageError
        Height or width is below `minimum`.
    """
    height, width = image.shape[:2]
    if min(height, width) < minimum:
        raise ImageError(
            f"{name}: {height}x{width} pixels are too few; height and width must be at least "
            f"{minimum}, so enlarge it"
        )


def scaled_size(
    height: int, width: int, *, longest: int | None = None, shortest: int | None = None
) -> tuple[int, int]:
    """Give the size, in the same proportions, whose longer or shorter side has a given length.

    Parameters
    ----------
    height, width : int
        The present size.
    longest, shortest : int, optional
        The wanted length in pixels of the longer or of the shorter side; exactly one is given.

    Returns
    -------
    (int, int)
        Height and width, each at least 1.

    Raises
    ------
    ValueError
        Both or neither of `longest` and `shortest` are given, it is below 1, or the size is above
        `MAX_PIXELS`.
    """
    if (longest is None) == (shortest is None):
        raise ValueError("give either longest or shortest")
    name, wanted, side = (
        ("longest", longest, max(height, width))
        if shortest is None
        else ("shortest", shortest, min(height, width))
    )
    if wanted is None or wanted < 1:
        raise ValueError(f"{name}={wanted!r}: must be at least 1 pixel")
    wanted = min(wanted, MAX_PIXELS + 1)  # floats hold it
    size = max(1, round(height * wanted / side)), max(1, round(width * wanted / side))
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(
            f"size {size[0]}x{size[1]}: above the limit of {MAX_PIXELS} pixels; ask for less"
        )
    return size


def resize(
    image: NDArray[np.float32],
    size: tuple[int, int],
    method: Literal["area", "bilinear", "bicubic", "lanczos"] = "lanczos",
) -> NDArray[np.float32]:
    """Resize a picture or a map with antialiasing.

    Parameters
    ----------
    image : float32 (H, W) or (H, W, C)
        The picture or map.
    size : (int, int)
        New height and width.
    method : {"area", "bilinear", "bicubic", "lanczos"}, optional
        The filter; it is widened to the pixel distance when the picture shrinks.

    Returns
    -------
    float32 (size[0], size[1]) or (size[0], size[1], C)
        A new array. Its values stay within the range of `image`: the overshoot of the sharper
        filters is cut.

    Raises
    ------
    ValueError
        Unknown `method`, or a side below 1.
    """
    from PIL import Image

    filters = {
        "area": Image.Resampling.BOX,
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "lanczos": Image.Resampling.LANCZOS,
    }
    if method not in filters:
        raise ValueError(f"method={method!r}: must be one of {', '.join(filters)}")
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"size={size!r}: height and width must be at least 1")
    if height * width > MAX_PIXELS:
        raise ValueError(f"size={size!r}: above the limit of {MAX_PIXELS} pixels; choose less")
    planes = np.asarray(image, np.float32).reshape(*image.shape[:2], -1)
    resized = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(planes[..., k])).resize(
                (width, height), filters[method]
            )
        )
        for k in range(planes.shape[2])
    ]
    low, high = planes.min(), planes.max()
    return np.clip(np.stack(resized, axis=-1), low, high).reshape(height, width, *image.shape[2:])


def _as_array(array: ArrayLike, name: str) -> NDArray[Any]:
    if hasattr(array, "getbands"):
        # A Pillow image; as an array, a palette image would pass as grey.
        raise ImageError(f'{name}: is a Pillow image; use numpy.asarray({name}.convert("RGB"))')
    # without numpy.ma, which takes long to import, there is no masked array
    if "numpy.ma" in sys.modules and np.ma.is_masked(array):
        raise ImageError(f"{name}: has masked values; fill them first with {name}.filled(...)")
    try:
        return np.asarray(array)
    except Exception as error:  # any object may be passed, and its conversion may raise anything
        raise ImageError(f"{name}: is no array ({error})") from error


def _as_alpha(alpha: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float32]:
    samples = _as_array(alpha, "alpha")
    if samples.shape != shape:
        raise ImageError(f"alpha: shape {samples.shape} must be the picture's {shape}")
    return to_unit(samples, "alpha")


def flatten(
    rgb: NDArray[np.float32],
    alpha: NDArray[np.float32] | None,
    background: tuple[float, float, float],
) -> NDArray[np.float32]:
    """Lay a picture (H, W, 3) with opacity (H, W) in [0, 1], or None, over a colour."""
    if alpha is None:
        return np.ascontiguousarray(rgb)
    paper = np.asarray(background, np.float32)
    return np.ascontiguousarray(paper + (rgb - paper) * alpha[..., None])


def _recipe_json(recipe: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(recipe), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ImageError(f"recipe: holds a value that JSON cannot ({error})") from error
