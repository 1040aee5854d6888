"""TensorFlow Lite's form of what tests need: a model of one graph with named tensors."""

import struct

import numpy as np

TYPES = {"float32": 0, "int32": 2, "int8": 9}


class _Writer:
    """A FlatBuffer in the making; what a table points to follows it."""

    def __init__(self):
        self.data = bytearray(b"\0\0\0\0TFL3")

    def table(self, fields):
        """Write a table of fields by place, each in eight bytes, and return where it begins."""
        slots = max(fields, default=-1) + 1
        places = [4 + 8 * i if i in fields else 0 for i in range(slots)]
        vtable = len(self.data)
        self.data += struct.pack(f"<{2 + slots}H", 4 + 2 * slots, 4 + 8 * slots, *places)
        start = len(self.data)
        self.data += struct.pack("<i", start - vtable) + bytes(8 * slots)
        for i, value in fields.items():
            at = start + places[i]
            if isinstance(value, int):
                struct.pack_into("<I", self.data, at, value)
            else:
                struct.pack_into("<I", self.data, at, self.item(value) - at)
        return start

    def item(self, value):
        """Write a table, a vector of tables, or a vector of numbers."""
        if isinstance(value, dict):
            return self.table(value)
        start = len(self.data)
        self.data += struct.pack("<I", len(value))
        if isinstance(value, list):
            self.data += bytes(4 * len(value))
            for i, item in enumerate(value):
                at = start + 4 + 4 * i
                struct.pack_into("<I", self.data, at, self.table(item) - at)
        else:
            self.data += bytes(value)
        return start


class _Numbers(bytes):
    """The bytes of numbers, counted in numbers."""

    def __new__(cls, numbers, dtype):
        made = super().__new__(cls, np.asarray(numbers, dtype).tobytes())
        made.count = len(numbers)
        return made

    def __len__(self):
        return self.count


def tflite_file(tensors):
    """Return a model of arrays by name; a pair is an int8 array and its scale.

    Or its scales, one for each index of the last axis.
    """
    buffers, described = [{}], []
    for name, value in tensors.items():
        array, scale = value if isinstance(value, tuple) else (value, None)
        described.append(
            {
                0: _Numbers(array.shape, "<i4"),
                1: TYPES[array.dtype.name],
                2: len(buffers),
                3: name.encode(),
            }
        )
        if scale is not None:
            scales = np.ravel(scale)
            described[-1][4] = {
                2: _Numbers(scales, "<f4"),
                3: _Numbers(np.zeros(len(scales)), "<i8"),
                6: max(array.ndim - 1, 0),
            }
        buffers.append({0: array.tobytes()})
    writer = _Writer()
    root = writer.table({2: [{0: described}], 4: buffers})
    struct.pack_into("<I", writer.data, 0, root)
    return bytes(writer.data)
