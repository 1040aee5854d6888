"""ncnn's ``.bin``: numbers without names, here of the transformation network of Johnson et al.

The file says how the numbers of a convolution are stored but not which layer they belong to; that
is in another file, or in the application. So the only network that is read is the one whose files
are published, in the form of PyTorch's examples; its keys are used.
"""

from __future__ import annotations

from collections.abc import Iterator

from depthstyle.weights.formats.source import Cursor, Source
from depthstyle.weights.formats.tensors import ELEMENTS, Element, Storage, TensorFile, contiguous

_TAGS = {
    0x01306B47: ELEMENTS["float16"],
    0x0002C056: ELEMENTS["float32"],
    0: ELEMENTS["float32"],
}
_INT8 = 0x000D4B38
_FLOAT32 = ELEMENTS["float32"]
_ALIGNMENT = 4
FIRST_BYTES = tuple(tag.to_bytes(4, "little") for tag in (*_TAGS, _INT8))
"""How such a file begins."""


def _layers() -> Iterator[tuple[str, str | None, int, int, int]]:
    """Yield the key, the key of the norm, and the shape (O, I, kernel) of each convolution."""
    yield "conv1.conv2d", "in1", 32, 3, 9
    yield "conv2.conv2d", "in2", 64, 32, 3
    yield "conv3.conv2d", "in3", 128, 64, 3
    for block in range(1, 6):
        for half in (1, 2):
            yield f"res{block}.conv{half}.conv2d", f"res{block}.in{half}", 128, 128, 3
    yield "deconv1.conv2d", "in4", 64, 128, 3
    yield "deconv2.conv2d", "in5", 32, 64, 3
    yield "deconv3.conv2d", None, 3, 32, 9


def read(source: Source) -> TensorFile:
    """Read the index of a ``.bin`` file.

    Raises
    ------
    WeightsError
        The file is cut short or longer than the network, or its numbers are quantised.
    """
    tensors = {}
    with source.open() as file:
        cursor = Cursor(source, file)

        def add(key: str, shape: tuple[int, ...], element: Element = _FLOAT32) -> None:
            count = 1
            for size in shape:
                count *= size
            offset = cursor.skip(count * element.size)
            cursor.skip(-count * element.size % _ALIGNMENT)
            tensors[key] = contiguous(Storage(source, offset, count, element), shape)

        for key, norm, outputs, inputs, kernel in _layers():
            add(f"{key}.weight", (outputs, inputs, kernel, kernel), _element(source, cursor, key))
            add(f"{key}.bias", (outputs,))
            if norm is not None:
                add(f"{norm}.weight", (outputs,))
                add(f"{norm}.bias", (outputs,))
    if cursor.offset != source.size:
        raise source.error(
            f"{source.size - cursor.offset} bytes more than the transformation network of "
            "PyTorch's examples has",
            "only that network is read from ncnn files",
        )
    return TensorFile(source, "ncnn", tensors)


def _element(source: Source, cursor: Cursor, key: str) -> Element:
    tag = cursor.unpack("I")
    if tag not in _TAGS:
        raise source.error(
            f"{key}: the numbers are quantised, or belong to another network (tag {tag:#x})",
            "only the transformation network of PyTorch's examples in float16 or float32 is read",
        )
    return _TAGS[tag]
