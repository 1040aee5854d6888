"""Writes depthstyle/_core.pyi: the fixed part below, and one method of Graph per op.

Run it with ``make stub`` after a change of csrc/core/ops.def; a test compares the file.
"""

from __future__ import annotations

import re
from pathlib import Path

from depthstyle import _core

TARGET = Path(__file__).parents[2] / "depthstyle" / "_core.pyi"

HEAD = '''\
"""The engine: graphs of ops, compiled into plans that run on one backend.

The methods of `Graph` come from csrc/core/ops.def through csrc/py/make_stub.py.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypedDict, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

class _DLPack(Protocol):
    def __dlpack__(self) -> object: ...

_Array = NDArray[Any] | _DLPack | float
_Shape = tuple[int, int, int, int]
_Kind = Literal["map", "plain"]

class _Attribute(TypedDict):
    name: str
    type: Literal["int", "float", "bool", "str"]
    default: int | float | bool | str
    choices: list[str]

class _Op(TypedDict):
    name: str
    inputs: tuple[int, int]
    text: str
    attributes: list[_Attribute]

def set_num_threads(n: int | None, /) -> None: ...
def get_num_threads() -> int: ...
def cpu_levels() -> list[str]: ...
def ops() -> list[_Op]: ...
def load_cuda(path: str | os.PathLike[str], cache: str | os.PathLike[str] = ..., /) -> None: ...
def has_cuda() -> bool: ...
def cuda_memory(ordinal: int, /) -> tuple[int, int]: ...
def memory_plan(lives: list[tuple[int, int, int]], reuse: bool, /) -> tuple[list[int], int]: ...

@final
class Node:
    @property
    def id(self) -> int: ...
    @property
    def graph(self) -> Graph: ...
    @property
    def shape(self) -> _Shape: ...
    @property
    def op(self) -> str: ...
    @property
    def kind(self) -> _Kind: ...
    @property
    def name(self) -> str: ...

@final
class DeviceArray:
    @property
    def shape(self) -> _Shape: ...
    @property
    def device(self) -> str: ...
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...
    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.float32]: ...

@final
class Plan:
    @property
    def outputs(self) -> list[Node]: ...
    @property
    def bytes(self) -> int: ...
    @property
    def backend(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def cpu_level(self) -> str: ...
    def run(
        self,
        inputs: dict[str, Any] | None = None,
        *,
        poll: Callable[[], object] | None = None,
        output: Literal["host", "device"] = "host",
    ) -> list[Any]: ...
    def repeat(
        self,
        count: int,
        inputs: dict[str, Any] | None = None,
        *,
        feeds: dict[str, ArrayLike] | None = None,
        watch: Sequence[Node] = (),
        poll: Callable[[], object] | None = None,
    ) -> NDArray[np.float32]: ...
    def set(self, name: str, array: _Array, /) -> None: ...
    def get(self, name: str, /) -> NDArray[np.floating[Any]]: ...
    def is_finite(self, name: str, /) -> bool: ...
    def dump(self) -> str: ...

@final
class LBFGS:
    def __new__(
        cls,
        n: int,
        history: int = 100,
        rate: float = 1.0,
        *,
        threads: int | None = None,
        plan: Plan | None = None,
        fail_at: int = -1,
    ) -> LBFGS: ...
    def step(
        self, x: NDArray[np.float32] | str, loss: float, gradient: NDArray[np.float32] | str, /
    ) -> float: ...
    def get_row(self, row: int, name: str, /) -> NDArray[np.float32]: ...
    def set_row(self, row: int, name: str, array: NDArray[np.float32], /) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    @property
    def state(self) -> tuple[bool, int, NDArray[np.float64]]: ...
    @state.setter
    def state(self, state: tuple[bool, int, NDArray[np.float64]], /) -> None: ...

@final
class Graph:
    def __new__(cls, *, fail_at: int = -1) -> Graph: ...
    @property
    def size(self) -> int: ...
    def input(self, name: str, shape: Sequence[int], kind: _Kind = "map") -> Node: ...
    def constant(self, array: _Array, kind: _Kind = "plain", name: str = "") -> Node: ...
    def variable(self, name: str, array: _Array, kind: _Kind = "map") -> Node: ...
    def gradient(self, loss: Node, wrt: Sequence[Node]) -> list[Node]: ...
    def compile(
        self,
        outputs: Sequence[Node],
        *,
        backend: Literal["cpu", "ref", "cuda"] = "cpu",
        ordinal: int = 0,
        dtype: Literal["float32", "float64"] = "float32",
        precision: Literal["fp32", "tf32", "bf16", "mixed"] = "fp32",
        threads: int | None = None,
        cpu_level: str | None = None,
        check: Sequence[Node] = (),
        dry: bool = False,
        reuse: bool = True,
        poison: bool = False,
    ) -> Plan: ...
'''


def input_names(op: _core._Op) -> list[str]:
    """Return the names of an op's inputs, from the left side of its sentence."""
    left = re.sub(r"\(.*?\)|, each|[\[\]]", "", op["text"].split(" -> ")[0])
    taken = {attribute["name"] for attribute in op["attributes"]}
    names = ["_".join(name.split()) for name in left.split(",")]
    return [f"{name}_" if name in taken else name for name in names]


def parameters(op: _core._Op) -> list[str]:
    """Return the parameters of an op's method, as they stand in the stub."""
    names, (fewest, most) = input_names(op), op["inputs"]
    if "..." in names:
        found = ["*inputs: Node"]
    else:
        if len(names) != most:
            raise ValueError(f"{op['name']}: its sentence names {len(names)} inputs, not {most}")
        found = [
            f"{name}: Node" if i < fewest else f"{name}: Node | None = None"
            for i, name in enumerate(names)
        ] + ["/"]
        found += ["*"] if op["attributes"] else []
    for attribute in op["attributes"]:
        choices = ", ".join(f'"{choice}"' for choice in attribute["choices"])
        kind = f"Literal[{choices}]" if choices else attribute["type"]
        value = f'"{attribute["default"]}"' if choices else repr(attribute["default"])
        found.append(f"{attribute['name']}: {kind} = {value}")
    return found


def make_stub() -> str:
    """Return the text of the stub."""
    lines = [HEAD]
    for op in _core.ops():
        if op["inputs"] == (0, 0):
            continue
        lines.append(f"    def {op['name']}(\n        self,\n")
        lines += [f"        {parameter},\n" for parameter in parameters(op)]
        lines.append("    ) -> Node: ...\n")
    return "".join(lines)


if __name__ == "__main__":
    TARGET.write_text(make_stub())
