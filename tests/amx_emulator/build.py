"""Builds the engine a second time, with AMX's tile registers emulated in plain C.

Only the files that see the registers, or ask for them, are compiled against the emulator of this
folder; the others come from the last build of the engine where they are up to date.
"""

import filecmp
import importlib.util
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
CSRC = ROOT / "csrc"
# Files of csrc whose code differs, and what stands in their place where it is not the same file.
DIFFERENT = {"base/amx.c": HERE / "amx.c", "base/cpu.c": None, "cpu/tiles.c": None}
FOLDERS = ("base", "core", "ops", "optim", "ref", "cpu", "py")
COMMAND = [
    *("gcc", "-std=gnu11", "-O2", "-fPIC", "-fno-math-errno", "-ffp-contract=off", "-pthread"),
    *("-fvisibility=hidden", "-Wall", "-Wextra", "-DDS_HAS_AVX512_BF16=1", "-DDS_HAS_AMX=1"),
    *(f"-I{path}" for path in (sysconfig.get_paths()["include"], numpy.get_include())),
]


def find_compiler() -> str | None:
    """Return the path of gcc, or None."""
    return shutil.which("gcc")


def is_same(source: Path, sources: Path) -> bool:
    """Return whether a source is the engine's and compiled as there."""
    name = str(source.relative_to(sources))
    return name not in DIFFERENT and filecmp.cmp(source, CSRC / name, shallow=False)


def built_objects() -> dict[tuple[str, bool], Path]:
    """Return the up-to-date objects of the last build, by source and whether they are in double."""
    headers = [path for kind in ("*.h", "*.def", "*.inc") for path in CSRC.rglob(kind)]
    newest = max(path.stat().st_mtime for path in headers)
    found = {}
    for folder in ROOT.glob("build/temp*/pthread_ldl_O3_g0"):
        for built in folder.rglob("*.o"):
            precision, _, *parts = built.relative_to(folder).parts
            source = CSRC.joinpath(*parts).with_suffix(".c")
            if source.exists() and built.stat().st_mtime > max(newest, source.stat().st_mtime):
                found[str(source.relative_to(CSRC)), precision == "double"] = built
    return found


def object_name(source: Path, double: bool, sources: Path) -> str:
    """Return the file name of an object of this folder's making."""
    return "_".join(source.relative_to(sources).parts) + (".double.o" if double else ".o")


def compile_object(source: Path, double: bool, sources: Path, folder: Path) -> Path:
    """Compile one file; what the compiler says is the error."""
    name = source.relative_to(sources)
    built = folder / object_name(source, double, sources)
    replaced = DIFFERENT.get(str(name)) or source
    macros = ["-DDS_REAL_IS_DOUBLE=1"] if double else []
    run([*COMMAND, *macros, f"-I{HERE}", f"-I{sources}", "-c", str(replaced), "-o", str(built)])
    return built


def build(folder: Path, sources: Path = CSRC, earlier: Path | None = None) -> Path:
    """Build the engine with emulated tiles and return the path of the module.

    Parameters
    ----------
    folder : path
        Where objects and module go.
    sources : path
        A tree like csrc; tests plant bugs in a copy of it, in headers only those of the tiles.
    earlier : path, optional
        The folder of an earlier build, whose objects are used where nothing has changed.
    """
    files = [path for name in FOLDERS for path in sorted((sources / name).glob("*.c"))]
    jobs = [(path, False) for path in files]
    jobs += [(path, True) for path in files if path.parent.name == "ref"]
    ready = built_objects()

    def make(job: tuple[Path, bool]) -> Path:
        source, double = job
        built = ready.get((str(source.relative_to(sources)), double))
        if built is None and earlier:
            built = earlier / object_name(source, double, sources)
        if built and is_same(source, sources):
            return built
        return compile_object(source, double, sources, folder)

    with ThreadPoolExecutor() as pool:
        objects = [str(path) for path in pool.map(make, jobs)]
    module = folder / "_core.so"
    run(["gcc", "-shared", "-pthread", "-o", str(module), *objects, "-ldl", "-lm"])
    return module


def load(module: Path) -> ModuleType:
    """Import a built engine beside the real one."""
    spec = importlib.util.spec_from_file_location(f"{module.parent.name}._core", module)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def run(command: list[str]) -> None:
    """Run a compiler; its messages are the error."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or "warning:" in done.stderr:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
