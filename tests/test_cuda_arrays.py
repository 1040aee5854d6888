"""Arrays in and out of a plan in the memory of the emulated GPU, which is this process's.

Producers are NumPy arrays that say to lie on a GPU; the emulator tells which stream waited for
which.
"""

import ctypes

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from depthstyle import _core

CUDA, CPU = 2, 1  # kinds of devices in DLPack
THEIRS = 4096  # a stream of the caller's
SHAPE = (2, 3, 5, 7)
pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


@pytest.fixture(scope="module", autouse=True)
def library(emulated_library):
    """Load the emulated backend."""
    _core.load_cuda(emulated_library)
    return emulated_library


@pytest.fixture
def waits(library):
    """A function that returns the pairs (stream, the one it waited for) since the last time."""
    following = ctypes.CDLL(str(library)).emulator_next_wait
    pair = (ctypes.c_size_t * 2)()

    def take():
        found = []
        while following(pair):
            found.append(tuple(pair))
        return found

    take()
    return take


def relabel(capsule, kind, ordinal=0, code=None):
    """Change the device, and perhaps the type, that a capsule of DLPack tells of."""
    tensor = pointer_of(capsule, b"dltensor")
    (ctypes.c_int32 * 2).from_address(tensor + 8)[:] = kind, ordinal
    if code is not None:
        ctypes.c_uint8.from_address(tensor + 20).value = code
    return capsule


class ByDlpack:
    """A producer with __dlpack__, on GPU `ordinal`."""

    def __init__(self, array, ordinal=0, code=None):
        self.array, self.ordinal, self.code, self.streams = array, ordinal, code, []

    def __dlpack_device__(self):
        return CUDA, self.ordinal

    def __dlpack__(self, *, stream=None):
        self.streams.append(stream)
        return relabel(self.array.__dlpack__(), CUDA, self.ordinal, self.code)


class ByInterface:
    """A producer with __cuda_array_interface__."""

    def __init__(self, array, **changes):
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, not array.flags.writeable),
            "strides": None if array.flags.c_contiguous else array.strides,
            "version": 3,
            **changes,
        }


class OnHost:
    """What a consumer on the emulated GPU sees of a DeviceArray, for numpy.from_dlpack."""

    def __init__(self, array, stream):
        self.capsule = relabel(array.__dlpack__(stream=stream), CPU)

    def __dlpack_device__(self):
        return CPU, 0

    def __dlpack__(self, **_):
        return self.capsule


def make_plan(backend="cuda", shape=SHAPE, **options):
    """Return the plan of 2 x + 1."""
    graph = _core.Graph()
    x = graph.input("x", shape, kind="map")
    return graph.compile([graph.affine(x, scale=2, shift=1)], backend=backend, **options)


def values(dtype=np.float32):
    return np.random.default_rng(3).standard_normal(SHAPE).astype(dtype)


LAYOUTS = {
    "planar": lambda x: x,
    "channels last": lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "reversed": lambda x: np.ascontiguousarray(x[:, :, ::-1])[:, :, ::-1],
    "repeated": lambda x: as_strided(x, strides=(0, *x.strides[1:])),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("producer", [ByDlpack, ByInterface])
def test_values_of_any_layout(layout, dtype, producer):
    array = LAYOUTS[layout](values(dtype))
    (out,) = make_plan().run({"x": producer(array)})
    np.testing.assert_array_equal(out, 2 * array.astype(np.float32) + 1)


def test_arrays_that_may_not_be_written_are_read():
    array = values()
    array.flags.writeable = False
    (out,) = make_plan().run({"x": ByInterface(array)})
    np.testing.assert_array_equal(out, 2 * array + 1)


def test_bf16_and_fewer_dimensions():
    bits = (values().view(np.uint32) >> 16).astype(np.uint16)[0]
    (out,) = make_plan(shape=(1, *SHAPE[1:])).run({"x": ByDlpack(bits, code=4)})
    wide = (bits.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(out[0], 2 * wide + 1)


def test_streams_of_the_interface_wait_for_each_other(waits):
    plan = make_plan()
    plan.set("x", ByInterface(values(), stream=THEIRS))
    (ours, after), back = waits()
    assert after == THEIRS and back == (THEIRS, ours) and ours != THEIRS
    plan.set("x", ByInterface(values(), stream=None))
    assert waits() == []


def test_dlpack_gets_the_stream_that_reads(waits):
    plan, producer = make_plan(), ByDlpack(values())
    plan.set("x", ByInterface(values(), stream=THEIRS))
    ours = waits()[0][0]
    plan.set("x", producer)
    assert producer.streams == [ours]


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (ByDlpack(values(), ordinal=1), "input 'x': lies on cuda:1, this plan on cuda:0"),
        (ByDlpack(values(np.float16)), r"input 'x': type \(2, 16 bits\) .* convert it to float32"),
        (ByDlpack(values().astype(np.int32)), r"input 'x': type \(0, 32 bits\)"),
        (ByDlpack(values()[:, :, 1:]), r"input 'x': shape \(2, 3, 4, 7\) must be \(2, 3, 5, 7\)"),
        (ByDlpack(values()[0, 0, 0]), "input 'x': has 1 dimension"),
        (ByInterface(values(np.float16)), "input 'x': type <f2 in a GPU's memory"),
        (ByInterface(values()[:, :2]), r"input 'x': shape \(2, 2, 5, 7\) must be"),
        (ByInterface(values(), stream=0), "has stream 0"),
        (ByInterface(values(), shape=(1,) * 5), "give up to 4"),
        (ByInterface(values(), data=None), "has no data"),
    ],
)
def test_what_cannot_be_read_is_named(array, said):
    plan = make_plan()
    with pytest.raises(ValueError, match=said):
        plan.set("x", array)
    with pytest.raises(ValueError, match="input 'x' has no value"):
        plan.run()


@pytest.mark.parametrize("producer", [ByDlpack, ByInterface])
def test_a_plan_on_the_cpu_takes_no_array_of_a_gpu(producer):
    with pytest.raises(ValueError, match="input 'x': lies in the memory of a GPU, this plan comp"):
        make_plan("cpu").run({"x": producer(values())})


@pytest.mark.parametrize("channels", [3, 8])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_outputs_stay_on_the_device(channels, precision, waits):
    shape = (2, channels, 5, 7)
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) % 64
    plan = make_plan(shape=shape, precision=precision)
    (out,) = plan.run({"x": x}, output="device")
    del plan  # the array is no part of it
    assert (out.shape, out.device) == (shape, "cuda:0")
    assert out.__dlpack_device__() == (CUDA, 0)
    np.testing.assert_array_equal(np.asarray(out), 2 * x + 1)
    interface = out.__cuda_array_interface__
    pointer = ctypes.cast(interface["data"][0], ctypes.POINTER(ctypes.c_float))
    np.testing.assert_array_equal(np.ctypeslib.as_array(pointer, shape), 2 * x + 1)
    assert interface["typestr"] == "<f4" and interface["stream"] == 1


def test_consumers_wait_for_outputs(waits):
    plan = make_plan()
    (out,) = plan.run({"x": values()}, output="device")
    for stream, waited in ((None, 1), (1, 1), (2, 2), (THEIRS, THEIRS)):
        out.__dlpack__(stream=stream, max_version=(1, 0), dl_device=(CUDA, 0), copy=False)
        ((later, _),) = waits()
        assert later == waited
    out.__dlpack__(stream=-1)
    assert waits() == []
    assert out.__cuda_array_interface__["stream"] == 1
    assert [later for later, _ in waits()] == [1]
    with pytest.raises(ValueError, match="stream=0"):
        out.__dlpack__(stream=0)
    for other in ({"dl_device": (CPU, 0)}, {"dl_device": (CUDA, 1)}, {"copy": True}):
        with pytest.raises(BufferError, match="without a copy"):
            out.__dlpack__(**other)


def test_an_exported_array_lives_as_long_as_its_reader():
    free, _ = _core.cuda_memory(0)
    x = np.ones((1, 1, 256, 256), np.float32)
    (out,) = make_plan(shape=x.shape).run({"x": x}, output="device")
    unused, seen = out.__dlpack__(stream=1), np.from_dlpack(OnHost(out, 1))
    del out
    np.testing.assert_array_equal(seen, 2 * x + 1)
    assert _core.cuda_memory(0)[0] == free - x.nbytes
    del unused, seen
    assert _core.cuda_memory(0)[0] == free


def test_the_output_of_a_plan_is_the_input_of_another():
    (first,) = make_plan().run({"x": values()}, output="device")
    (second,) = make_plan().run({"x": first})
    np.testing.assert_array_equal(second, 2 * (2 * values() + 1) + 1)


def test_on_the_cpu_arrays_are_already_where_they_belong():
    (out,) = make_plan("cpu").run({"x": values()}, output="device")
    assert isinstance(out, np.ndarray)
    with pytest.raises(ValueError, match="output='gpu' must be one of host"):
        make_plan("cpu").run({"x": values()}, output="gpu")
