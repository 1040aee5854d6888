"""What csrc/cuda/plan_cache.c keeps of the choices among cuDNN's engines; needs no CUDA."""

import ctypes
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[1] / "csrc"
KEY = "cudnn 92000 driver 13000 NVIDIA H200 132 forward 1 64 512 512"

if not (CSRC / "cuda").is_dir():
    pytest.skip("the sources of the engine are not beside the tests", allow_module_level=True)
if shutil.which("gcc") is None:
    pytest.skip("no gcc to build the cache with", allow_module_level=True)


class Choice(ctypes.Structure):
    """ds_plan_choice."""

    _fields_ = [("position", ctypes.c_int64), ("engine", ctypes.c_int64)]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan_cache") / "plan_cache.so"
    flags = ("-std=gnu11", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-shared", "-fPIC")
    source = str(CSRC / "cuda" / "plan_cache.c")
    subprocess.run(["gcc", *flags, f"-I{CSRC}", source, "-o", str(path)], check=True)
    library = ctypes.CDLL(str(path))
    library.ds_plan_cache_read.restype = ctypes.c_bool
    library.ds_plan_fastest.restype = ctypes.c_size_t
    return library


def read(library, folder, key=KEY):
    """Return position and engine, or None."""
    choice = Choice(-7, -7)
    found = library.ds_plan_cache_read(
        None if folder is None else os.fsencode(folder), key.encode(), ctypes.byref(choice)
    )
    return (choice.position, choice.engine) if found else None


def write(library, folder, choice, key=KEY):
    place = None if folder is None else os.fsencode(folder)
    library.ds_plan_cache_write(place, key.encode(), ctypes.byref(Choice(*choice)))


@pytest.mark.parametrize("choice", [(0, 0), (3, 41), (-1, -1), (2**40, 2**62)])
def test_what_is_written_is_read(library, tmp_path, choice):
    assert read(library, tmp_path) is None
    write(library, tmp_path, (5, 5))
    write(library, tmp_path, choice)
    assert read(library, tmp_path) == choice
    assert len(list(tmp_path.iterdir())) == 1


def test_another_key_finds_nothing(library, tmp_path):
    write(library, tmp_path, (3, 41))
    for other in (KEY + "0", KEY.replace("92000", "92001"), KEY.replace("H200", "H100"), ""):
        assert read(library, tmp_path, other) is None


def test_the_file_of_another_key_finds_nothing_under_this_name(library, tmp_path):
    """As if the hashes of two keys were the same."""
    write(library, tmp_path, (3, 41))
    (mine,) = tmp_path.iterdir()
    write(library, tmp_path, (1, 2), "another key")
    (other,) = set(tmp_path.iterdir()) - {mine}
    other.replace(mine)
    assert read(library, tmp_path) is None


def test_every_damaged_byte_and_every_cut_is_noticed(library, tmp_path):
    write(library, tmp_path, (3, 41))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    damaged = [whole[:end] for end in range(len(whole))]
    damaged += [whole[:i] + bytes([byte ^ 1]) + whole[i + 1 :] for i, byte in enumerate(whole)]
    damaged += [whole + b"\n", whole + whole, b"\0" * 5000, os.urandom(len(whole))]
    for content in damaged:
        path.write_bytes(content)
        assert read(library, tmp_path) is None
    write(library, tmp_path, (3, 41))
    assert path.read_bytes() == whole
    assert read(library, tmp_path) == (3, 41)


def test_no_folder_and_folders_that_cannot_be_used_are_no_error(library, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    locked = tmp_path / "locked"
    locked.mkdir()
    write(library, locked, (3, 41))
    locked.chmod(0o500)
    for folder in (None, tmp_path / "missing", file, "x" * 5000, "/proc"):
        write(library, folder, (3, 41))
        assert read(library, folder) is None
    write(library, locked, (3, 41))
    assert read(library, locked) == (3, 41)
    locked.chmod(0o700)


def test_a_key_that_is_too_long_is_not_kept(library, tmp_path):
    write(library, tmp_path, (3, 41), "k" * 5000)
    assert list(tmp_path.iterdir()) == []
    assert read(library, tmp_path, "k" * 5000) is None


def test_writers_and_readers_at_the_same_time_see_whole_choices(library, tmp_path):
    choices = {(i, 1000 + i) for i in range(8)}
    write(library, tmp_path, (0, 1000))

    def work(choice):
        for _ in range(200):
            write(library, tmp_path, choice)
            assert read(library, tmp_path) in choices

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, choices))
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ([1.0], 0),
        ([2.0, 1.0, 1.5], 1),
        ([1.02, 1.0], 0),
        ([1.04, 1.0], 1),
        ([1.5, 1.02, 1.0, 1.01], 1),
        ([1e30, 1e30], 0),
        ([1e30, 0.5], 1),
    ],
)
def test_the_first_of_about_equal_times_is_chosen(library, times, chosen):
    milliseconds = (ctypes.c_float * len(times))(*times)
    assert library.ds_plan_fastest(milliseconds, ctypes.c_size_t(len(times))) == chosen
