"""Files that want to run code, to take all memory, or to read what is not theirs."""

import json
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hostile_weights import (
    Raw,
    call,
    code,
    dump,
    entry,
    legacy_file,
    legacy_tensor,
    name,
    payload,
    safetensors_file,
    storage,
    table7,
    tar_file,
    tar_kind,
    tensor,
    tensor7,
    text7,
    zip_file,
    zip_members,
)

from depthstyle import WeightsError, weights

HUGE = 2**62
MARKER = "MARKER"
_LIST_IN_ITSELF = Raw(b"]q\x00h\x00a")
_LAUGHS = Raw(b"(](NNeq\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60)) + b"t")

CODE = {
    "os.system": call(name("os", "system"), f"touch {MARKER}"),
    "posix.system": call(name("posix", "system"), f"touch {MARKER}"),
    "eval": call(name("builtins", "eval"), f"open('{MARKER}', 'w')"),
    "exec of Python 2": call(name("__builtin__", "exec"), f"open('{MARKER}', 'w')"),
    "open": call(name("builtins", "open"), MARKER, "w"),
    "getattr": call(name("builtins", "getattr"), name("os", "path"), "join"),
    "subprocess": call(name("subprocess", "Popen"), ["touch", MARKER]),
    "runpy": call(name("runpy", "run_path"), MARKER),
    "pip": call(name("pip", "main"), ["install", "x"]),
    "torch.load": call(name("torch.serialization", "load"), MARKER),
    "torch.hub": call(name("torch.hub", "load"), "a/b", "c"),
    "numpy": call(name("numpy.core.multiarray", "_reconstruct"), 1, 2, 3),
    "dotted name": call(name("torch", "_utils._rebuild_tensor_v2"), 1, 2, 3, 4),
    "dunder": call(name("torch.Size", "__class__.__base__"), 1),
    "OrderedDict of eval": call(name("collections", "OrderedDict"), name("builtins", "eval")),
    "INST": Raw(b"(" + code(f"touch {MARKER}") + b"ios\nsystem\n"),
    "OBJ": Raw(b"(" + code(name("os", "system")) + code(f"touch {MARKER}") + b"o"),
    "NEWOBJ": Raw(code(name("subprocess", "Popen")) + code(("true",)) + b"\x81"),
    "NEWOBJ_EX": Raw(code(name("subprocess", "Popen")) + code(("true",)) + b"}\x92"),
    "STACK_GLOBAL": Raw(code("os") + code("system") + b"\x93" + code((f"touch {MARKER}",)) + b"R"),
    "EXT1": Raw(b"\x82\x01" + code(()) + b"R"),
    "PERSID": Raw(b"Pstorage\n"),
    "call of a list": Raw(b"]" + code(()) + b"R"),
    "call of a class of storage": call(name("torch", "FloatStorage"), 1 << 60),
    "state of a global": Raw(code(name("torch", "FloatStorage")) + b"}b"),
    "Parameter of a string": call(name("torch.nn.parameter", "Parameter"), "x"),
    "Size of a number": call(name("torch", "Size"), 1 << 40),
    "whole module": Raw(code(("module", name("torch", "FloatStorage"), "f.py", "code")) + b"Q"),
}

TENSORS = {
    "count beyond the member": tensor(storage(count=5)),
    "negative count": tensor(storage(count=-1)),
    "overflowing count": tensor(storage(count=HUGE)),
    "count that is no number": tensor(storage(count="4")),
    "key that is absent": tensor(storage(key="7")),
    "key out of the archive": tensor(storage(key="../../etc/passwd")),
    "offset beyond the storage": tensor(offset=4),
    "negative offset": tensor(offset=-1),
    "offset of 2^62": tensor(offset=HUGE),
    "shape beyond the storage": tensor(shape=(5,)),
    "negative size": tensor(shape=(-4,)),
    "negative stride": tensor(offset=3, strides=(-1,)),
    "product that overflows to 4": tensor(shape=(2**62 + 1, 4), strides=(4, 1)),
    "reach that overflows to 0": tensor(shape=(3, 3), strides=(2**63, 2**63)),
    "empty, of 2^62 rows": tensor(shape=(2**62, 8, 0), strides=(0, 0, 1)),
    "expanded to 2^60 numbers": tensor(shape=(2**60,), strides=(0,)),
    "expanded to 1 GiB": tensor(shape=(2**28,), strides=(0,)),
    "shape and strides of two ranks": tensor(shape=(2, 2), strides=(1,)),
    "shape of floats": tensor(shape=(Raw(b"G" + struct.pack(">d", 4)),)),
    "shape of a string": tensor(shape="4"),
    "shape of booleans": tensor(shape=(True,)),
    "a thousand dimensions": tensor(shape=(1,) * 1000, strides=(1,) * 1000),
    "storage of an unknown class": tensor(storage(kind="QInt8Storage")),
    "storage of another module": tensor(storage(module="evil")),
    "storage in two ways": [tensor(), tensor(storage("HalfStorage", count=8), shape=(8,))],
    "tensor of no storage": tensor("storage"),
    "reference of no tuple": Raw(code("0") + b"Q"),
    "old rebuild without strides": call(name("torch._utils", "_rebuild_tensor"), storage(), 0),
    "no tensors": {"epoch": 1},
}

STRUCTURE = {
    "list in itself": _LIST_IN_ITSELF,
    "list of lists, doubled sixty times": _LAUGHS,
    "nested ten thousand deep": Raw(b"]" * 10_000 + b"a" * 9_999),
    "text longer than the file": Raw(b"X" + struct.pack("<I", 2**32 - 1)),
    "no stop": Raw(b"N" * 10),
    "empty stack": Raw(b"0"),
    "mark at the end": Raw(b"("),
    "tuple without a mark": Raw(b"Nt"),
    "memo that is absent": Raw(b"h\x05"),
    "dictionary as a key": Raw(b"}}}s"),
    "tuple as a key": {("a",): tensor()},
    "odd number of keys": Raw(b"}(N" + b"u"),
    "items for a tuple": Raw(b")Na"),
    "text of no UTF-8": Raw(b"X" + struct.pack("<I", 1) + b"\xff"),
    "duplicate after joining": {"a.b": tensor(), "a": {"b": tensor()}},
    "unknown protocol": Raw(b"\x80\x63N"),
    "endless name": Raw(b"c" + b"a" * 1000),
    "name of 2 KiB": {"a" * 2000: tensor()},
}


@pytest.mark.parametrize("case", [*CODE, *TENSORS, *STRUCTURE])
@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_pickles(tmp_path, monkeypatch, case, kind):
    monkeypatch.chdir(tmp_path)
    value = (CODE | TENSORS | STRUCTURE)[case]
    if kind == "legacy":
        value = Raw(code(value).replace(b"cpu" + code(4) + b"t", b"cpu" + code(4) + b"Nt"))
    (tmp_path / "net.pth").write_bytes(zip_file(value) if kind == "zip" else legacy_file(value))
    refused(tmp_path / "net.pth")
    assert not (tmp_path / MARKER).exists()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("wrap", [zip_file, legacy_file, bytes])
def test_python_payloads_are_not_run(tmp_path, protocol, wrap):
    (tmp_path / "net.pth").write_bytes(wrap(payload(tmp_path / MARKER, protocol)))
    refused(tmp_path / "net.pth")
    assert not (tmp_path / MARKER).exists()


def patched(data, at, layout, *values):
    return data[:at] + struct.pack(layout, *values) + data[at + struct.calcsize(layout) :]


def overlapping_zip():
    """The second entry of the index points to the first one's bytes."""
    data = zip_file(tensor())
    second = data.rindex(b"PK\x01\x02")
    return patched(data, second + 42, "<I", 0)


def zip_beyond_the_end():
    data = zip_file(tensor())
    return patched(data, data.rindex(b"PK\x01\x02") + 20, "<II", 2**31, 2**31)


def damaged_number():
    data = bytearray(zip_file(tensor()))
    data[data.index(struct.pack("<4f", 1, 2, 3, 4))] ^= 1
    return bytes(data)


def big_endian_zip():
    return zip_file(tensor(), extra=[("archive/byteorder", b"big")])


ZIPS = {
    "bomb": lambda: zip_members(
        [("archive/data.pkl", dump(tensor())), ("archive/data/0", b"\0" * 50_000_000)],
        zipfile.ZIP_DEFLATED,
    ),
    "overlap": overlapping_zip,
    "member beyond the end": zip_beyond_the_end,
    "damaged number": damaged_number,
    "big endian": big_endian_zip,
    "two pickles": lambda: zip_file(tensor(), extra=[("other/data.pkl", dump(tensor()))]),
    "no pickle": lambda: zip_members([("a.txt", b"hello")]),
    "empty": lambda: zip_members([]),
    "program": lambda: zip_file(tensor(), extra=[("archive/constants.pkl", b"")]),
    "cut": lambda: zip_file(tensor())[:-40],
    "half a million operations": lambda: zip_file(Raw(b"N" * 510_000)),
    "head only": lambda: zip_file(tensor())[:60],
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(zip_file(tensor(), extra=[("archive/data/0", b"\0" * 16)]))
    refused(path, "two members")


LEGACY = {
    "big endian": lambda: legacy_file(legacy_tensor(), system={"little_endian": False}),
    "no system": lambda: legacy_file(legacy_tensor(), system=[1]),
    "other version": lambda: legacy_file(legacy_tensor(), version=1002),
    "key twice": lambda: legacy_file(legacy_tensor(), keys=("0", "0"), counts=(4, 4)),
    "unknown key": lambda: legacy_file(legacy_tensor(), keys=("1",)),
    "no keys": lambda: legacy_file(legacy_tensor(), keys=()),
    "numbers as keys": lambda: legacy_file(legacy_tensor(), keys=(0,)),
    "another count": lambda: legacy_file(legacy_tensor(), counts=(3,)),
    "negative count": lambda: legacy_file(legacy_tensor(), counts=(-4,)),
    "huge count": lambda: legacy_file(legacy_tensor(count=HUGE), counts=(HUGE,)),
    "cut numbers": lambda: legacy_file(legacy_tensor())[:-1],
    "view beyond": lambda: legacy_file(legacy_tensor(view=("9", 2, 3))),
    "negative view": lambda: legacy_file(legacy_tensor(view=("9", -1, 2))),
    "view of texts": lambda: legacy_file(legacy_tensor(view=("9", "0", "4"))),
    "view of two parts": lambda: legacy_file(legacy_tensor(view=("9", 0))),
}


TARS = {
    "count beyond": lambda: tar_kind(count=HUGE),
    "many storages": lambda: tar_kind(storages=2**40),
    "size beyond": lambda: tar_kind(size=5),
    "many dimensions": lambda: tar_kind(dimensions=2**30),
    "negative dimensions": lambda: tar_kind(dimensions=-1),
    "no such storage": lambda: tar_kind(key="3"),
    "no such tensor": lambda: tar_kind(root="6"),
    "list as an id": lambda: tar_kind(root=[1]),
    "view beyond": lambda: tar_kind(view=("1", "0", 2, 3)),
    "view of itself": lambda: tar_kind(view=("1", "1", 0, 1)),
    "links": lambda: tar_file([(n, b"") for n in ("storages", "tensors", "pickle")], b"2"),
    "other members": lambda: tar_file([("a", b"x")]),
    "cut": lambda: tar_kind()[:700],
}

SAFETENSORS = {
    "header beyond": lambda: safetensors_file({}, length=2**20),
    "header of 2^63": lambda: safetensors_file({}, length=2**63),
    "no JSON": lambda: safetensors_file(b"{nonsense"),
    "deep JSON": lambda: safetensors_file(b'{"a":' * 100_000),
    "hole": lambda: safetensors_file({"a": entry([1], 4, 8)}, b"\0" * 8),
    "overlap": lambda: safetensors_file(
        {"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, b"\0" * 12
    ),
    "beyond the end": lambda: safetensors_file({"a": entry([4], 0, 16)}, b"\0" * 8),
    "overflowing shape": lambda: safetensors_file({"a": entry([2**62, 4], 0, 0)}),
    "shape of another size": lambda: safetensors_file({"a": entry([3], 0, 8)}, b"\0" * 8),
    "negative size": lambda: safetensors_file({"a": entry([-2], 0, 8)}, b"\0" * 8),
    "name twice": lambda: safetensors_file(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b"\0" * 4,
    ),
    "bytes after the end": lambda: safetensors_file({"a": entry([1], 0, 4)}, b"\0" * 8),
    "unknown type": lambda: safetensors_file({"a": entry([1], 0, 4, "F99")}, b"\0" * 4),
    "float8": lambda: safetensors_file({"a": entry([4], 0, 4, "F8_E4M3")}, b"\0" * 4),
    "no tensors": lambda: safetensors_file({}),
}

_DEEP7 = b"".join(
    struct.pack("<iii", 3, i, 1) + struct.pack("<i", 2) + text7("a") for i in range(1, 5000)
)

TORCH7 = {
    "deep": lambda: _DEEP7 + struct.pack("<i", 0),
    "text beyond": lambda: table7(struct.pack("<ii", 2, 2**31 - 1), count=1),
    "negative text": lambda: table7(struct.pack("<ii", 2, -1), count=1),
    "table of 2^31": lambda: table7(count=2**31 - 1),
    "only a circle": lambda: table7(struct.pack("<i", 2) + text7("a"), struct.pack("<ii", 3, 1)),
    "number out of order": lambda: table7(index=7),
    "unknown kind": lambda: struct.pack("<iii", 3, 1, 1) + struct.pack("<i", 99),
    "shape beyond": lambda: tensor7((5,), (1,)),
    "huge shape": lambda: tensor7((HUGE, 4), (4, 1)),
    "offset 0": lambda: tensor7((4,), (1,), first=0),
    "offset beyond": lambda: tensor7((4,), (1,), first=2),
    "negative stride": lambda: tensor7((4,), (-1,), first=4),
    "count beyond": lambda: tensor7((4,), (1,), count=HUGE),
    "negative count": lambda: tensor7((4,), (1,), count=-4),
    "expanded": lambda: tensor7((2**40,), (0,)),
    "bytes after the end": lambda: tensor7((4,), (1,)) + b"\0",
    "cut": lambda: tensor7((4,), (1,))[:-3],
}

OTHERS = {
    "empty": lambda: b"",
    "one byte": lambda: b"\x80",
    "page": lambda: b"<!DOCTYPE html><html>404</html>",
    "Git LFS pointer": lambda: (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    ),
    "zeros": lambda: b"\0" * 1000,
    "ncnn, cut": lambda: b"\x47\x6b\x30\x01" + b"\0" * 1000,
    "ncnn, quantised": lambda: b"\x38\x4b\x0d\x00" + b"\0" * 1000,
    "picture": lambda: b"\x89PNG\r\n\x1a\n",
}


def flat_cases():
    groups = {
        "zip": ZIPS,
        "legacy": LEGACY,
        "tar": TARS,
        "safetensors": SAFETENSORS,
        "torch7": TORCH7,
        "other": OTHERS,
    }
    return {
        f"{group}, {case}": make for group, cases in groups.items() for case, make in cases.items()
    }


@pytest.mark.parametrize("case", flat_cases())
def test_files(tmp_path, case):
    path = tmp_path / "net.pth"
    path.write_bytes(flat_cases()[case]())
    refused(path)


def test_the_hand_made_files_are_right_but_for_one_thing(tmp_path):
    path = tmp_path / "net.pth"
    for data in (
        zip_file(tensor()),
        zip_file({"a": tensor()}),
        zip_file({"a": tensor(rebuild="_rebuild_tensor")}),
        legacy_file(legacy_tensor()),
        legacy_file({"a": legacy_tensor(view=("9", 1, 3), shape=(3,))}),
        tar_kind(),
        tar_kind(view=("1", "0", 2, 2)),
        safetensors_file({"a": entry([4], 0, 16)}, b"\0" * 16),
        tensor7((4,), (1,)),
    ):
        path.write_bytes(data)
        assert len(weights.open(path)) == 1


def manifest(folder, entries):
    (folder / "manifest.json").write_text(json.dumps(entries))
    (folder / "a").write_bytes(b"\0" * 8)


FOLDERS = {
    "parent": {"x": {"filename": "../a", "shape": [2]}},
    "absolute": {"x": {"filename": "/etc/passwd", "shape": [2]}},
    "itself": {"x": {"filename": ".", "shape": [2]}},
    "missing": {"x": {"filename": "b", "shape": [2]}},
    "no name": {"x": {"shape": [2]}},
    "no shape": {"x": {"filename": "a"}},
    "other shape": {"x": {"filename": "a", "shape": [3]}},
    "huge shape": {"x": {"filename": "a", "shape": [2**62, 2**62]}},
    "two in one": {k: {"filename": "a", "shape": [2]} for k in "xy"},
    "no entry": {"x": 3},
    "list": [],
    "nothing": {},
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folders(tmp_path, case):
    manifest(tmp_path, FOLDERS[case])
    refused(tmp_path)


def test_what_is_no_file(tmp_path):
    refused(tmp_path / "absent.pth", "no such file")
    refused(tmp_path, r"without manifest\.json")
    refused("net\0.pth", "cannot be read")
    os.mkfifo(tmp_path / "pipe.pth")
    refused(tmp_path / "pipe.pth", "no regular file")


def refused(path, match=r".+; .+"):
    """The file raises one kind of error, which names it and the fix, and takes little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match=match) as info:
            for array in weights.open(path).values():
                assert isinstance(array, np.ndarray)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(path) in str(info.value)
    size = os.path.getsize(path) if os.path.isfile(str(path)) else 0
    assert peak <= 2 * size + (16 << 20)
