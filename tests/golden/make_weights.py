"""Writes the files of weights in tests/golden/weights with PyTorch, in all formats that it has had.

Run with PyTorch installed: python tests/golden/make_weights.py. The tar format is no longer
written by PyTorch; its files are laid out here as its loader reads them, and the loader of PyTorch
is asked to read them back.
"""

import io
import pickle
import struct
import tarfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

FOLDER = Path(__file__).parent / "weights"


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 1)
    )


def strided():
    base = torch.arange(60, dtype=torch.float32)
    grid = base[:24].reshape(4, 6)
    return OrderedDict(
        transposed=grid.T,
        column=grid[:, 2],
        inside=base[30:42].reshape(3, 4)[1:, ::2],
        expanded=base[5:6].expand(3, 2),
        same=grid,
        scalar=torch.tensor(2.5),
        empty=torch.zeros(0, 3),
    )


def types():
    values = torch.tensor([-1.5, 0.0, 1.0, 3.25])
    kinds = ["float16", "bfloat16", "float32", "float64", "int8", "uint8", "int16", "int32"]
    kinds += ["int64", "bool", "complex64"]
    return {kind: values.abs().to(getattr(torch, kind)) for kind in kinds}


def nested():
    return {
        "epoch": 7,
        "best": 0.25,
        "name": "größe",
        "model": network().state_dict(),
        "layers": [torch.ones(2), (torch.zeros(1), None, True)],
        "steps": {3: torch.full((2,), 3.0)},
    }


CASES = {
    "state": lambda: network().state_dict(),
    "parallel": lambda: {f"module.{k}": v for k, v in network().state_dict().items()},
    "strided": strided,
    "types": types,
    "nested": nested,
    "parameter": lambda: {"weight": torch.nn.Parameter(torch.ones(2, 3))},
    "bare": lambda: torch.arange(6.0).reshape(2, 3),
}


def flat(value, name=""):
    if isinstance(value, torch.Tensor):
        array = value.detach()
        array = array.float() if array.dtype == torch.bfloat16 else array
        return {name or "tensor": array.numpy()}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = {}
    for key, inner in items:
        if isinstance(inner, torch.Tensor | dict | list | tuple):
            found |= flat(inner, f"{name}.{key}" if name else str(key))
    return found


class TarPickler(pickle.Pickler):
    def __init__(self, file, ids):
        super().__init__(file, protocol=2)
        self.ids = ids

    def persistent_id(self, value):
        return self.ids.get(id(value))


def save_tar(tensors, path):
    """Save a dict of float32 tensors; the last is a view of the first one's storage."""
    first = next(iter(tensors.values()))
    ids = {id(tensor): str(100 + i) for i, tensor in enumerate(tensors.values())}
    storages, views, entries = io.BytesIO(), [], io.BytesIO()
    own = [tensor for tensor in tensors.values() if tensor.data_ptr() != first.data_ptr()]
    pickle.dump(1 + len(own), storages, protocol=2)
    pickle.dump(len(tensors), entries, protocol=2)
    for i, tensor in enumerate([first, *own]):
        pickle.dump((i, "cpu", torch.FloatStorage), storages, protocol=2)
        data = tensor.contiguous().numpy().tobytes()
        storages.write(struct.pack("<q", len(data) // 4) + data)
    for tensor in tensors.values():
        shared = tensor.data_ptr() == first.data_ptr()
        key = 0 if shared else 1 + [id(t) for t in own].index(id(tensor))
        if shared and tensor is not first:
            views.append((900, 0, 0, first.numel()))
            key = 900
        pickle.dump((int(ids[id(tensor)]), key, torch.FloatTensor), entries, protocol=2)
        sizes = (*tensor.shape, *tensor.stride(), 0)
        entries.write(struct.pack(f"<ii{len(sizes)}q", tensor.dim(), 0, *sizes))
    pickle.dump(views, storages, protocol=2)
    holder = io.BytesIO()
    TarPickler(holder, ids).dump(OrderedDict(tensors))
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in (("storages", storages), ("tensors", entries), ("pickle", holder)):
            info = tarfile.TarInfo(name)
            info.size = data.tell()
            data.seek(0)
            archive.addfile(info, data)


def main():
    FOLDER.mkdir(exist_ok=True)
    for name, make in CASES.items():
        value = make()
        torch.save(value, FOLDER / f"{name}.zip.pth")
        torch.save(value, FOLDER / f"{name}.legacy.pth", _use_new_zipfile_serialization=False)
        np.savez(FOLDER / f"{name}.npz", **flat(value))
    torch.save(network().state_dict(), FOLDER / "protocol4.zip.pth", pickle_protocol=4)
    torch.save({"a": torch.arange(3).to(torch.uint16)}, FOLDER / "v3.zip.pth")
    torch.save(network(), FOLDER / "whole_model.zip.pth")
    torch.save(network(), FOLDER / "whole_model.legacy.pth", _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.script(network()), FOLDER / "torchscript.pt")
    save_file(
        {k: v.contiguous() for k, v in types().items() if k != "complex64"},
        FOLDER / "types.safetensors",
    )
    weight = torch.arange(6.0).reshape(2, 3)
    tensors = {"weight": weight, "bias": torch.ones(2), "turned": weight.T}
    save_tar(tensors, FOLDER / "oldest.tar.pth")
    with tarfile.open(FOLDER / "oldest.tar.pth") as archive:
        assert len(archive.getmembers()) == 3
    read = torch.load(FOLDER / "oldest.tar.pth", weights_only=False)
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


if __name__ == "__main__":
    main()
