"""The labelled set of NYU Depth v2: pictures with their depth, read one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from depthstyle.errors import ImageError
from depthstyle.picture_codec import PathLike

if TYPE_CHECKING:
    import h5py


class NyuDepth:
    """The file ``nyu_depth_v2_labeled.mat`` (MATLAB 7.3, which is HDF5).

    The file stays on the disk; each call reads what it returns. Use it in a ``with`` block, or
    `close` it.

    Parameters
    ----------
    path : path
        The file.

    Raises
    ------
    ImageError
        It cannot be read, or holds no pictures with depth.

    Examples
    --------
    >>> with NyuDepth("nyu_depth_v2_labeled.mat") as rooms:  # doctest: +SKIP
    ...     photo, metres = rooms.image(12), rooms.depth(12)
    """

    def __init__(self, path: PathLike) -> None:
        import h5py

        self._path = path
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise ImageError(
                f"{path}: cannot be read as a MATLAB 7.3 file ({str(error).splitlines()[0]})"
            ) from error
        try:
            images, depths = self._array("images", 4), self._array("depths", 3)
            expected = (depths.shape[0], 3, *depths.shape[1:])
            if images.shape != expected:
                raise ImageError(f"{path}: images {images.shape} and depths {depths.shape} differ")
        except ImageError:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._file["depths"])

    def __enter__(self) -> NyuDepth:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def image(self, index: int) -> NDArray[np.float32]:
        """Return a picture, float32 (H, W, 3) RGB in [0, 1].

        Parameters
        ----------
        index : int
            From 0; the lists in ``splits.mat`` count from 1.

        Raises
        ------
        ImageError
            There is no such picture, or it is damaged.
        """
        # MATLAB's axes come out reversed: (channel, column, row).
        return self._read("images", index).transpose(2, 1, 0).astype(np.float32) / np.float32(255)

    def depth(self, index: int, *, raw: bool = False) -> NDArray[np.float32]:
        """Return a depth map in metres, float32 (H, W).

        Parameters
        ----------
        index : int
            As for `image`.
        raw : bool, optional
            What was measured, 0 where nothing was; otherwise the map with its holes filled.

        Raises
        ------
        ImageError
            As for `image`.
        """
        return self._read("rawDepths" if raw else "depths", index).T.astype(np.float32)

    def _array(self, name: str, dimensions: int) -> h5py.Dataset:
        import h5py

        found = self._file.get(name)
        if not isinstance(found, h5py.Dataset) or found.ndim != dimensions:
            raise ImageError(f"{self._path}: holds no {name}; must be NYU's labelled set")
        return found

    def _read(self, name: str, index: int) -> NDArray[Any]:
        array = self._array(name, 4 if name == "images" else 3)
        if index not in range(len(self)):
            raise ImageError(f"{self._path}: index={index!r} must be from 0 to {len(self) - 1}")
        try:
            return np.asarray(array[index])
        except OSError as error:
            raise ImageError(f"{self._path}: {name} {index} is damaged ({error})") from error
