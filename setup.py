"""Builds the engine. Every folder of csrc is globbed: a new C file needs no line here.

Environment variables:

DEPTHSTYLE_DEBUG=1
    Debug symbols, little optimisation, warnings are errors.
DEPTHSTYLE_SANITIZE=address,undefined
    The same with these sanitizers.
DEPTHSTYLE_COVERAGE=1
    Counts executed lines, for gcov.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
FOLDERS = ("base", "core", "ops", "optim", "ref", "cpu", "py")
HEADERS = ("*.h", "*.def", "*.inc")

# No contraction: whether a * b + c is rounded once is said by the kernel, not by the compiler.
COMMON = [
    *("-std=gnu11", "-fno-math-errno", "-ffp-contract=off", "-fvisibility=hidden", "-pthread"),
    *("-Wall", "-Wextra", "-Wshadow"),
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
        jobs = [(source, []) for source in ext.sources]
        jobs += [
            (source, [("DS_REAL_IS_DOUBLE", "1")])
            for source in ext.sources
            if Path(source).parent.name == "ref"
        ]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            ext.extra_objects = list(pool.map(lambda job: self._compile(ext, *job), jobs))
        ext.sources = []
        self.force = True
        super().build_extension(ext)

    def _compile(self, ext: Extension, source: str, macros: list[tuple[str, str]]) -> str:
        kind = "_".join(flag.strip("-") for flag in ext.extra_link_args) or "plain"
        folder = Path(self.build_temp, kind.replace(",", "_"), "double" if macros else "single")
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
            extra_link_args=["-pthread", *flags()],
        )
    ],
    cmdclass={"build_ext": BuildEngine},
)
