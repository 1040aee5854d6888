"""The house's rules that a search of the sources can check."""

import re
from pathlib import Path

import pytest
from c_sources import flatten, is_function, strip, top_level

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "csrc"

if not CSRC.is_dir():
    pytest.skip("the sources of the engine are not beside the tests", allow_module_level=True)

C_SUFFIXES = (".c", ".h", ".def", ".inc", ".cu")
C_FILES = sorted(path for path in CSRC.rglob("*") if path.suffix in C_SUFFIXES)
PYTHON_FILES = sorted([*(ROOT / "depthstyle").rglob("*.py"), *CSRC.rglob("*.py")])
TEXT_FILES = [*C_FILES, *PYTHON_FILES, *ROOT.glob("tests/**/*.py"), *ROOT.glob("bench/**/*.py")]

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 100

# Who may include what: a folder, or single headers of another folder.
LAYERS = {
    "base": ("base/",),
    "core": ("base/", "core/"),
    "ops": ("base/", "core/op.h", "core/ops.def", "core/graph.h", "core/tensor.h", "ops/"),
    "ref": ("base/", "core/backend.h", "core/resample.h", "core/ops.def", "ref/"),
    "cpu": (
        *("base/", "core/backend.h", "core/resample.h", "core/ops.def", "cpu/"),
        "ref/ref.h",  # what cpu has no kernel for runs through ref
    ),
    "cuda": (
        *("base/", "core/backend.h", "core/op.h", "core/ops.def", "core/tensor.h", "cuda/"),
        "core/resample.h",
    ),
    "optim": ("base/", "core/", "optim/"),
    "py": ("base/", "core/", "optim/", "py/"),
}

# Tables that CPython's headers want without const.
PYTHON_TABLES = {
    *("PyMethodDef", "PyMemberDef", "PyGetSetDef", "PyModuleDef"),
    *("PyType_Slot", "PyType_Spec", "PyModuleDef_Slot"),
}

CONSTANT = ("typedef", "extern", "_Static_assert", "constexpr", "template")
QUALIFIERS = ("static", "const", "volatile", "_Thread_local", "struct", "union", "enum")


def name(path):
    return str(path.relative_to(ROOT))


def calls(path, names):
    """Calls of the named functions, outside comments and strings but inside macros."""
    text = re.sub(r"/\*.*?\*/|\"(?:\\.|[^\"\\])*\"", "", path.read_text(), flags=re.DOTALL)
    return re.findall(rf"\b(?:{names})\s*\(", text)


def is_mutable(declaration):
    """Whether a declaration, with or without initializer, is a variable that can change."""
    declarator = re.split(r"=|\[", declaration)[0].replace("{}", "").strip()
    words = declarator.replace("*", " ").split()
    if "(" in declarator or not words or words[0] in CONSTANT:
        return False
    names = [word for word in words if word not in QUALIFIERS]
    if len(names) < 2 or PYTHON_TABLES & set(names):
        return False  # the definition of a type, or a table for Python
    return "const" not in re.split(r"\*", declarator)[-1].split()


@pytest.mark.parametrize("path", C_FILES, ids=name)
def test_includes_keep_to_their_layer(path):
    layer = path.relative_to(CSRC).parts[0]
    for included in re.findall(r'#\s*include\s+"([^"]+)"', path.read_text()):
        assert included.startswith(LAYERS[layer]), f"{layer} may not include {included}"


@pytest.mark.parametrize("path", C_FILES, ids=name)
def test_only_the_binding_knows_python_and_one_file_numpy(path):
    text = path.read_text()
    in_binding = path.relative_to(CSRC).parts[0] == "py"
    assert in_binding or not re.search(r"#\s*include\s+<(Python|structmember|numpy/)", text)
    assert name(path) == "csrc/py/array.c" or "numpy/" not in text
    assert name(path) == "csrc/py/array.c" or not calls(path, r"PyArray_\w+")


@pytest.mark.parametrize("path", C_FILES, ids=name)
def test_only_one_file_allocates_and_nothing_exits(path):
    if name(path) != "csrc/base/alloc.c":
        allocators = "malloc|calloc|realloc|free|aligned_alloc|posix_memalign|strdup|alloca"
        assert not calls(path, rf"{allocators}|_mm_malloc|PyMem_\w+|PyObject_Malloc")
    assert not calls(path, "exit|_exit|abort|assert|__builtin_trap|printf|puts|fprintf")


@pytest.mark.parametrize("path", C_FILES, ids=name)
def test_no_global_can_change(path):
    text = strip(flatten(path.read_text()))
    found = [piece for piece, _, _ in top_level(text) if is_mutable(piece)]
    inside = re.findall(r"^\s+(static\s[^;={(]*[=;])", text, flags=re.MULTILINE)
    found += [piece for piece in inside if is_mutable(piece.rstrip("=;"))]
    assert not found


@pytest.mark.parametrize("path", C_FILES, ids=name)
def test_functions_are_short(path):
    for piece, line, lines in top_level(strip(flatten(path.read_text()))):
        assert not is_function(piece) or lines <= MAX_FUNCTION_LINES, f"line {line}: {piece}"


@pytest.mark.parametrize("path", TEXT_FILES, ids=name)
def test_files_are_short_and_finished(path):
    text = path.read_text()
    assert len(text.splitlines()) < MAX_FILE_LINES
    unfinished = "TO" + "DO|FIX" + "ME|X" + "XX|HA" + "CK"
    assert not re.search(rf"\b({unfinished})\b", text)


def test_the_rules_see_violations():
    for code in [
        "static int count;",
        "int count = 0;",
        "static float table[4] = {1, 2};",
        "static const char *text;",
        "static const char *const *text = other;",
        "static struct pool shared;",
    ]:
        ((piece, _, _),) = top_level(strip(code))
        assert is_mutable(piece), code
    for code in [
        "static const float HALF = 0.5f;",
        "static const char *const names[] = {0};",
        "static char *const names[] = {0};",
        "const ds_kernel kernel = {.run = run};",
        "static PyMethodDef methods[] = {{0}};",
        "typedef struct pool pool;",
        "struct pool { int count; };",
        "static int count(void) { static const int one = 1; return one; }",
        "extern const int limit;",
    ]:
        assert not any(is_mutable(piece) for piece, _, _ in top_level(strip(code))), code
    long = "int f(void)\n{\n" + "g();\n" * MAX_FUNCTION_LINES + "}\n"
    assert top_level(strip(long)) == [("int f(void)\n{}", 1, MAX_FUNCTION_LINES + 3)]
