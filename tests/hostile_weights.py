"""Makes files of weights by hand, right ones and hostile ones."""

import io
import json
import pickle
import struct
import tarfile
import zipfile


class Raw(bytes):
    """Pickle operations, to stand in place of a value."""


def code(value):
    """Pickle operations that put a value on the stack."""
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, bool) or value is None:
        return {True: b"\x88", False: b"\x89", None: b"N"}[value]
    if isinstance(value, int):
        data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(data)]) + data
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, tuple):
        return b"(" + b"".join(map(code, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(code, value)) + b"e"
    items = [code(key) + code(inner) for key, inner in value.items()]
    return b"}(" + b"".join(items) + b"u"


def name(module, attribute):
    return Raw(f"c{module}\n{attribute}\n".encode())


def call(function, *arguments):
    return Raw(code(function) + code(tuple(arguments)) + b"R")


def dump(value):
    """A whole pickle of a value; bytes that are one already stay."""
    if isinstance(value, bytes) and not isinstance(value, Raw):
        return value
    return b"\x80\x02" + code(value) + b"."


def storage(kind="FloatStorage", key="0", count=4, view=(), module="torch"):
    parts = ("storage", name(module, kind), key, "cpu", count, *view)
    return Raw(code(parts) + b"Q")


def tensor(source=None, offset=0, shape=(4,), strides=(1,), rebuild="_rebuild_tensor_v2"):
    source = storage() if source is None else source
    hooks = call(name("collections", "OrderedDict"))
    function = name("torch._utils", rebuild)
    return call(function, source, offset, shape, strides, False, hooks)


def zip_members(members, method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for member, data in members:
            archive.writestr(member, data)
    return buffer.getvalue()


def tar_file(members, kind=tarfile.REGTYPE):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for member, data in members:
            info = tarfile.TarInfo(member)
            info.size, info.type = len(data), kind
            info.linkname = "/etc/passwd" if kind == tarfile.SYMTYPE else ""
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def tar_kind(count=4, storages=1, dimensions=1, size=4, view=None, key="0", root="5"):
    """The tar kind of PyTorch with a tensor of four numbers."""
    head = dump(storages) + dump(("0", "cpu", name("torch", "FloatStorage")))
    head += struct.pack("<q", count) + b"\0" * 16 + dump([] if view is None else [view])
    entries = dump(1) + dump(("5", key, name("torch", "FloatTensor")))
    entries += struct.pack("<iiqqq", dimensions, 0, size, 1, 0)
    holder = dump({"w": Raw(code(root) + b"Q")})
    return tar_file([("storages", head), ("tensors", entries), ("pickle", holder)])


def zip_file(value, storages=None, extra=()):
    """The zip kind of PyTorch with an object; its storage 0 has four numbers."""
    storages = {"0": struct.pack("<4f", 1, 2, 3, 4)} if storages is None else storages
    members = [("archive/data.pkl", dump(value))]
    members += [(f"archive/data/{key}", data) for key, data in storages.items()]
    return zip_members([*members, *extra])


SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}


def legacy_file(value, keys=("0",), counts=(4,), system=SYSTEM, version=1001, data=None):
    """The legacy kind of PyTorch with an object."""
    head = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
    file = head + dump(version) + dump(system) + dump(value) + dump(list(keys))
    for count in counts:
        file += struct.pack("<q", count) + (
            struct.pack("<4f", 1, 2, 3, 4) if data is None else data
        )
    return file


def legacy_tensor(count=4, view=None, **options):
    return tensor(storage(count=count, view=(view,)), **options)


def safetensors_file(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def text7(text):
    return struct.pack("<i", len(text)) + text.encode()


def table7(*items, index=1, count=None):
    return struct.pack("<iii", 3, index, len(items) // 2 if count is None else count) + b"".join(
        items
    )


def tensor7(shape, strides, first=1, count=4, numbers=4, index=1, kind="Float"):
    """A tensor of Torch7 with its storage; `count` is announced, `numbers` are there."""
    data = struct.pack("<ii", 4, index) + text7("V 1") + text7(f"torch.{kind}Tensor")
    data += struct.pack("<i", len(shape)) + struct.pack(f"<{len(shape)}q", *shape)
    data += struct.pack(f"<{len(strides)}qq", *strides, first)
    data += struct.pack("<ii", 4, index + 1) + text7("V 1") + text7(f"torch.{kind}Storage")
    return data + struct.pack("<q", count) + b"\0" * (4 * numbers)


class Payload:
    """An object whose pickle runs a command when Python's own reader reads it."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.marker}",)


def payload(marker, protocol):
    return pickle.dumps(Payload(marker), protocol=protocol)
