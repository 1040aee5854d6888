"""Torch7's binary form of what tests need."""

import struct


def torch7(value, known):
    """Torch7's binary form of numbers, strings, tables and tensors; `known` begins empty."""
    if value is None:
        return struct.pack("<i", 0)
    if isinstance(value, bool):
        return struct.pack("<ii", 5, value)
    if isinstance(value, float):
        return struct.pack("<id", 1, value)
    if isinstance(value, str):
        return struct.pack("<ii", 2, len(value)) + value.encode()
    if id(value) in known:
        return struct.pack("<ii", 3, known[id(value)])
    known[id(value)] = index = len(known) + 1
    if isinstance(value, dict):
        data = struct.pack("<iii", 3, index, len(value))
        return data + b"".join(torch7(k, known) + torch7(v, known) for k, v in value.items())
    name = b"torch.FloatTensor"
    data = struct.pack("<iii", 4, index, 3) + b"V 1" + struct.pack("<i", len(name)) + name
    strides = [stride // 4 for stride in value.strides]
    data += struct.pack(f"<i{2 * value.ndim + 1}q", value.ndim, *value.shape, *strides, 1)
    known[object()] = storage = len(known) + 1
    name = b"torch.FloatStorage"
    data += struct.pack("<iii", 4, storage, 3) + b"V 1" + struct.pack("<i", len(name)) + name
    return data + struct.pack("<q", value.size) + value.tobytes()


def nested(arrays):
    """Tables inside tables from keys such as ``model.modules.2.weight``; numbers become keys."""
    root = {}
    for name, array in arrays.items():
        table = root
        *path, last = [float(part) if part.isdigit() else part for part in name.split(".")]
        for part in path:
            table = table.setdefault(part, {})
        table[last] = array
    return root
