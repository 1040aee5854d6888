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
    def add(
        self,
        a: Node,
        b: Node,
        /,
    ) -> Node: ...
    def multiply(
        self,
        a: Node,
        b: Node,
        /,
    ) -> Node: ...
    def affine(
        self,
        x: Node,
        /,
        *,
        scale: float = 1.0,
        shift: float = 0.0,
    ) -> Node: ...
    def activation(
        self,
        x: Node,
        /,
        *,
        kind: Literal["relu", "leaky_relu", "elu", "relu6", "sigmoid", "tanh"] = "relu",
        alpha: float = 0.01,
    ) -> Node: ...
    def activation_backward(
        self,
        dy: Node,
        y: Node,
        /,
        *,
        kind: Literal["relu", "leaky_relu", "elu", "relu6", "sigmoid", "tanh"] = "relu",
        alpha: float = 0.01,
    ) -> Node: ...
    def sum_to(
        self,
        x: Node,
        /,
        *,
        n: int = 1,
        c: int = 1,
        h: int = 1,
        w: int = 1,
    ) -> Node: ...
    def broadcast(
        self,
        x: Node,
        /,
        *,
        n: int = 1,
        c: int = 1,
        h: int = 1,
        w: int = 1,
        kind: Literal["plain", "map"] = "plain",
    ) -> Node: ...
    def conv2d(
        self,
        x: Node,
        w: Node,
        bias: Node | None = None,
        /,
        *,
        stride: int = 1,
        pad: int = 0,
        dilation: int = 1,
        groups: int = 1,
        pad_mode: Literal["zero", "reflect"] = "zero",
    ) -> Node: ...
    def conv2d_backward_input(
        self,
        dy: Node,
        w_: Node,
        /,
        *,
        stride: int = 1,
        pad: int = 0,
        dilation: int = 1,
        groups: int = 1,
        pad_mode: Literal["zero", "reflect"] = "zero",
        h: int = 0,
        w: int = 0,
    ) -> Node: ...
    def conv2d_backward_weight(
        self,
        x: Node,
        dy: Node,
        /,
        *,
        stride: int = 1,
        pad: int = 0,
        dilation: int = 1,
        groups: int = 1,
        pad_mode: Literal["zero", "reflect"] = "zero",
        kh: int = 0,
        kw: int = 0,
    ) -> Node: ...
    def max_pool(
        self,
        x: Node,
        /,
        *,
        kernel: int = 2,
        stride: int = 2,
        pad: int = 0,
        ceil: bool = False,
    ) -> Node: ...
    def max_pool_backward(
        self,
        dy: Node,
        x: Node,
        /,
        *,
        kernel: int = 2,
        stride: int = 2,
        pad: int = 0,
        ceil: bool = False,
    ) -> Node: ...
    def avg_pool(
        self,
        x: Node,
        /,
        *,
        kernel: int = 2,
        stride: int = 2,
        ceil: bool = False,
    ) -> Node: ...
    def avg_pool_backward(
        self,
        dy: Node,
        /,
        *,
        kernel: int = 2,
        stride: int = 2,
        ceil: bool = False,
        h: int = 0,
        w: int = 0,
    ) -> Node: ...
    def concat(
        self,
        *inputs: Node,
    ) -> Node: ...
    def slice(
        self,
        x: Node,
        /,
        *,
        axis: int = 1,
        begin: int = 0,
        end: int = 0,
    ) -> Node: ...
    def slice_backward(
        self,
        dy: Node,
        /,
        *,
        axis: int = 1,
        begin: int = 0,
        size: int = 0,
    ) -> Node: ...
    def pad(
        self,
        x: Node,
        /,
        *,
        top: int = 0,
        bottom: int = 0,
        left: int = 0,
        right: int = 0,
        mode: Literal["zero", "reflect", "replicate"] = "zero",
    ) -> Node: ...
    def pad_backward(
        self,
        dy: Node,
        /,
        *,
        top: int = 0,
        bottom: int = 0,
        left: int = 0,
        right: int = 0,
        mode: Literal["zero", "reflect", "replicate"] = "zero",
    ) -> Node: ...
    def resize(
        self,
        x: Node,
        /,
        *,
        h: int = 0,
        w: int = 0,
        mode: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "nearest",
        align_corners: bool = False,
        antialias: bool = False,
    ) -> Node: ...
    def resize_backward(
        self,
        dy: Node,
        /,
        *,
        h: int = 0,
        w: int = 0,
        mode: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "nearest",
        align_corners: bool = False,
        antialias: bool = False,
    ) -> Node: ...
    def instance_norm(
        self,
        x: Node,
        gamma: Node | None = None,
        beta: Node | None = None,
        /,
        *,
        epsilon: float = 1e-05,
        whole_batch: bool = False,
    ) -> Node: ...
    def instance_norm_backward(
        self,
        dy: Node,
        x: Node,
        gamma: Node | None = None,
        /,
        *,
        epsilon: float = 1e-05,
        whole_batch: bool = False,
    ) -> Node: ...
    def instance_norm_backward_gamma(
        self,
        dy: Node,
        x: Node,
        /,
        *,
        epsilon: float = 1e-05,
        whole_batch: bool = False,
    ) -> Node: ...
    def batch_norm(
        self,
        x: Node,
        mean: Node,
        var: Node,
        gamma: Node | None = None,
        beta: Node | None = None,
        /,
        *,
        epsilon: float = 1e-05,
    ) -> Node: ...
    def batch_norm_backward(
        self,
        dy: Node,
        var: Node,
        gamma: Node | None = None,
        /,
        *,
        epsilon: float = 1e-05,
    ) -> Node: ...
    def gram(
        self,
        x: Node,
        mask: Node | None = None,
        /,
        *,
        scale: float = 1.0,
    ) -> Node: ...
    def gram_backward(
        self,
        x: Node,
        dg: Node,
        mask: Node | None = None,
        /,
        *,
        scale: float = 1.0,
    ) -> Node: ...
    def feature_loss(
        self,
        x: Node,
        target: Node,
        mask: Node | None = None,
        /,
        *,
        scale: float = 1.0,
    ) -> Node: ...
    def feature_loss_backward(
        self,
        x: Node,
        target: Node,
        dl: Node,
        mask: Node | None = None,
        /,
        *,
        scale: float = 1.0,
    ) -> Node: ...
    def laplacian(
        self,
        x: Node,
        /,
        *,
        pool: int = 4,
    ) -> Node: ...
    def laplacian_backward(
        self,
        dy: Node,
        /,
        *,
        pool: int = 4,
        c: int = 3,
        h: int = 0,
        w: int = 0,
    ) -> Node: ...
    def total_variation(
        self,
        x: Node,
        /,
        *,
        scale: float = 1.0,
    ) -> Node: ...
    def total_variation_backward(
        self,
        x: Node,
        dl: Node,
        /,
        *,
        scale: float = 1.0,
    ) -> Node: ...
    def moments(
        self,
        x: Node,
        /,
        *,
        epsilon: float = 1e-05,
        unbiased: bool = True,
    ) -> Node: ...
    def moments_backward(
        self,
        x: Node,
        moments: Node,
        dmoments: Node,
        /,
        *,
        epsilon: float = 1e-05,
        unbiased: bool = True,
    ) -> Node: ...
    def adain(
        self,
        x: Node,
        style_moments: Node,
        strength: Node | None = None,
        /,
        *,
        epsilon: float = 1e-05,
        unbiased: bool = True,
    ) -> Node: ...
    def adain_backward(
        self,
        dy: Node,
        x: Node,
        style_moments: Node,
        strength: Node | None = None,
        /,
        *,
        epsilon: float = 1e-05,
        unbiased: bool = True,
    ) -> Node: ...
    def adain_backward_style(
        self,
        dy: Node,
        x: Node,
        style_moments: Node,
        strength: Node | None = None,
        /,
        *,
        epsilon: float = 1e-05,
        unbiased: bool = True,
    ) -> Node: ...
    def dot(
        self,
        a: Node,
        b: Node,
        /,
    ) -> Node: ...
    def axpy(
        self,
        alpha: Node,
        x: Node,
        y: Node,
        /,
    ) -> Node: ...
    def adam_update(
        self,
        x: Node,
        m: Node,
        v: Node,
        step: Node,
        gradient: Node,
        rate: Node,
        /,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-08,
        weight_decay: float = 0.0,
    ) -> Node: ...
    def sgd_update(
        self,
        x: Node,
        velocity: Node,
        gradient: Node,
        rate: Node,
        /,
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> Node: ...
    def clamp_update(
        self,
        x: Node,
        low: Node,
        high: Node,
        /,
    ) -> Node: ...
    def keep_update(
        self,
        kept: Node,
        x: Node,
        least: Node | None = None,
        value: Node | None = None,
        /,
    ) -> Node: ...
