"""Builds the engine. Every folder of csrc is globbed: a new C file needs no line here.

Environment variables:

DEPTHSTYLE_DEBUG=1
    Debug symbols, little optimisation, warnings are errors.
DEPTHSTYLE_SANITIZE=address,undefined
    The same with these sanitizers.
DEPTHSTYLE_COVERAGE=1
    Counts executed lines, for gcov.
DEPTHSTYLE_CUDA=auto|0|1
    Whether to build the CUDA backend; auto (the default) does where nvcc and cuDNN are found.
    CUDNN_PATH is a folder with cuDNN's include and lib.
DEPTHSTYLE_CUDA_ARCHITECTURES=80,90,100
    The GPUs to compile for; the last one's code is kept in a form for later GPUs too.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

ROOT = Path(__file__).parent
FOLDERS = ("base", "core", "ops", "optim", "ref", "cpu", "py")
HEADERS = ("*.h", "*.def", "*.inc")

# No contraction: whether a * b + c is rounded once is said by the kernel, not by the compiler.
COMMON = [
    *("-std=gnu11", "-fno-math-errno", "-ffp-contract=off", "-fvisibility=hidden", "-pthread"),
    *("-Wall", "-Wextra", "-Wshadow"),
]

# Instructions that not every compiler knows: the macro that says it does, and a function that needs
# them. The engine leaves out the processor levels whose macro is missing.
INSTRUCTIONS = {
    "DS_HAS_AVX512_BF16": """
        #include <immintrin.h>
        __attribute__((target("avx512f,avx512bf16"))) __m512 probe(__m512 c, __m512bh a)
        {
            return _mm512_dpbf16_ps(c, a, a);
        }
    """,
    "DS_HAS_AMX": """
        #include <immintrin.h>
        __attribute__((target("amx-tile,amx-bf16"))) void probe(const void *tile)
        {
            _tile_loadconfig(tile);
            _tile_loadd(1, tile, 64);
            _tile_dpbf16ps(0, 1, 2);
            _tile_release();
        }
    """,
}

OLDEST_CUDNN = (9, 8)
CUDA_LIBRARY = "libdepthstyle_cuda.so"
CUDA_NEEDS = (
    *("csrc/base/alloc.c", "csrc/base/status.c", "csrc/core/resample.c"),
    "csrc/cuda/plan_cache.c",
)
GPUS = os.environ.get("DEPTHSTYLE_CUDA_ARCHITECTURES", "80,90,100").split(",")
NVCC = [
    *("-std=c++20", "-O3", "-Xcompiler", "-fPIC,-fvisibility=hidden"),
    *(f"-gencode=arch=compute_{gpu},code=sm_{gpu}" for gpu in GPUS),
    f"-gencode=arch=compute_{GPUS[-1]},code=compute_{GPUS[-1]}",
]


def flags() -> list[str]:
    """Compiler and linker flags of the asked kind of build."""
    sanitize = os.environ.get("DEPTHSTYLE_SANITIZE", "")
    if os.environ.get("DEPTHSTYLE_COVERAGE"):
        return ["-O0", "-g3", "--coverage"]
    if sanitize:
        return [
            *("-O1", "-g3", "-UNDEBUG", "-Werror", "-fno-omit-frame-pointer"),
            *(f"-fsanitize={sanitize}", "-fno-sanitize-recover=all"),
        ]
    if os.environ.get("DEPTHSTYLE_DEBUG"):
        return ["-Og", "-g3", "-UNDEBUG", "-Werror"]
    return ["-O3", "-g0"]


class BuildEngine(build_ext):
    """Compiles on all processors, only what changed, and the reference kernels in two types."""

    def build_extension(self, ext: Extension) -> None:
        """Compile the objects, then let setuptools link them."""
        known = self._known_instructions() if platform.machine() in ("x86_64", "AMD64") else []
        jobs = [(source, known) for source in ext.sources]
        jobs += [
            (source, [*known, ("DS_REAL_IS_DOUBLE", "1")])
            for source in ext.sources
            if Path(source).parent.name == "ref"
        ]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            ext.extra_objects = list(pool.map(lambda job: self._compile(ext, *job), jobs))
        ext.sources = []
        self.force = True
        super().build_extension(ext)

        build_cuda(Path(self.get_ext_fullpath(ext.name)).parent, Path(self.build_temp))

    def copy_extensions_to_source(self) -> None:
        """Put the CUDA library beside the sources too, where a build in place looks for it."""
        super().copy_extensions_to_source()
        built = Path(self.build_lib, "depthstyle", CUDA_LIBRARY)
        if built.exists():
            shutil.copy2(built, ROOT / "depthstyle")

    def _known_instructions(self) -> list[tuple[str, str]]:
        """Return the macros of INSTRUCTIONS for what this compiler can make."""
        known = []
        folder = Path(self.build_temp, "probes")
        folder.mkdir(parents=True, exist_ok=True)
        for macro, text in INSTRUCTIONS.items():
            source = folder / f"{macro.lower()}.c"
            source.write_text(text)
            try:
                self.compiler.compile([str(source)], output_dir=str(folder), extra_postargs=["-w"])
            except CompileError:
                print(f"{macro} is not defined: this compiler cannot make such code")
                break
            known.append((macro, "1"))
        return known

    def _compile(self, ext: Extension, source: str, macros: list[tuple[str, str]]) -> str:
        kind = "_".join(flag.strip("-") for flag in ext.extra_link_args) or "plain"
        double = "double" if ("DS_REAL_IS_DOUBLE", "1") in macros else "single"
        folder = Path(self.build_temp, kind.replace(",", "_"), double)
        built = folder / Path(source).with_suffix(".o")
        newest = max(os.path.getmtime(path) for path in [source, *ext.depends])
        if built.exists() and built.stat().st_mtime > newest:
            return str(built)
        (built,) = self.compiler.compile(
            [source],
            output_dir=str(folder),
            macros=macros,
            include_dirs=ext.include_dirs,
            extra_postargs=ext.extra_compile_args,
        )
        return built


def find_cudnn() -> Path | None:
    """Return the folder with cuDNN's include and lib: CUDNN_PATH, PyPI's package, or the system's.

    A build of pip's does not see the packages of its environment, but knows where they lie.
    """
    installed = Path(sysconfig.get_paths()["purelib"], "nvidia", "cudnn")
    for folder in (os.environ.get("CUDNN_PATH"), installed, "/usr", "/usr/local"):
        if folder and Path(folder, "include", "cudnn.h").is_file() and is_new(Path(folder)):
            return Path(folder)
    return None


def is_new(cudnn: Path) -> bool:
    """Whether the headers of a folder are of cuDNN 9.8 or newer, as far as they tell."""
    header = cudnn / "include" / "cudnn_version.h"
    text = header.read_text() if header.is_file() else ""
    found = [re.search(rf"#define CUDNN_{name} (\d+)", text) for name in ("MAJOR", "MINOR")]
    if not all(found):
        return True
    if tuple(int(number[1]) for number in found) >= OLDEST_CUDNN:
        return True
    print(f"cuDNN in {cudnn} is older than {'.'.join(map(str, OLDEST_CUDNN))}: passed over")
    return False


def build_cuda(target: Path, temporary: Path) -> None:
    """Build libdepthstyle_cuda.so into a folder, if wanted and possible."""
    wanted = os.environ.get("DEPTHSTYLE_CUDA", "auto")
    if wanted not in ("auto", "0", "1"):
        sys.exit(f"DEPTHSTYLE_CUDA={wanted}: must be auto, 0 or 1")
    nvcc, cudnn = shutil.which("nvcc"), find_cudnn()
    missing = [name for name, found in (("nvcc", nvcc), ("cuDNN's headers", cudnn)) if not found]
    if missing:
        said = f"the CUDA backend is not built: {' and '.join(missing)} not found"
        if wanted == "1":
            sys.exit(f"{said}; install the CUDA Toolkit and nvidia-cudnn-cu13, or set CUDNN_PATH")
        print(said)
    if wanted == "0" or missing:
        return
    folder = temporary / "cuda"
    folder.mkdir(parents=True, exist_ok=True)
    include = ["-Icsrc", f"-I{cudnn}/include"]
    jobs = [(path, [nvcc, *NVCC, *include]) for path in find("cuda", "*.cu")]
    jobs += [(path, ["gcc", "-O2", "-fPIC", *COMMON, *include]) for path in CUDA_NEEDS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(lambda job: compile_object(*job, folder), jobs))
    target.mkdir(parents=True, exist_ok=True)
    library = target / CUDA_LIBRARY
    paths = [f"-L{cudnn}/{lib}" for lib in ("lib", "lib64", "lib/x86_64-linux-gnu")]
    beside = "-Xlinker", "-rpath,$ORIGIN/../nvidia/cudnn/lib"
    run([nvcc, "-shared", *NVCC, "-o", str(library), *objects, *paths, "-l:libcudnn.so.9", *beside])


def compile_object(source: str, command: list[str], folder: Path) -> str:
    """Compile one file of the CUDA backend if it or a header has changed."""
    built = folder / Path(source).with_suffix(".o").name
    headers = find("", "*.h", "*.def")
    newest = max(os.path.getmtime(path) for path in [source, "setup.py", *headers])
    if not built.exists() or built.stat().st_mtime <= newest:
        run([*command, "-c", source, "-o", str(built)])
    return str(built)


def run(command: list[str]) -> None:
    """Run a compiler and show what it runs."""
    print(" ".join(command), flush=True)
    subprocess.run(command, check=True)


def find(folder: str, *patterns: str) -> list[str]:
    """Paths below a folder of csrc, relative to this file and sorted."""
    paths = (path for pattern in patterns for path in Path(ROOT, "csrc", folder).rglob(pattern))
    return sorted(str(path.relative_to(ROOT)) for path in paths)


setup(
    ext_modules=[
        Extension(
            "depthstyle._core",
            sources=[path for folder in FOLDERS for path in find(folder, "*.c")],
            depends=[*find("", *HEADERS), "setup.py"],
            include_dirs=["csrc", numpy.get_include()],
            extra_compile_args=COMMON + flags(),
            extra_link_args=["-pthread", "-ldl", *flags()],
        )
    ],
    cmdclass={"build_ext": BuildEngine},
)
