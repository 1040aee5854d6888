"""The depthstyle command: exit codes, one-line errors, quick start."""

import subprocess
import sys
import types
import warnings

import pytest

import depthstyle
from depthstyle import cli


@pytest.fixture
def command(monkeypatch):
    """Register a sub-command ``probe`` that runs the given function."""

    def register(function):
        module = types.ModuleType("probe_command")

        def add_parser(subparsers):
            parser = subparsers.add_parser("probe")
            parser.add_argument("--count", type=int, default=0)
            parser.set_defaults(run=function)

        module.add_parser = add_parser
        monkeypatch.setitem(sys.modules, "probe_command", module)
        monkeypatch.setitem(cli.COMMANDS, "probe", ("probe_command", "a probe"))

    return register


def raising(error):
    def run(args):
        raise error

    return run


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"depthstyle {depthstyle.__version__}\n"


def test_help_lists_every_command_without_importing_any(command, capsys, monkeypatch):
    command(raising(AssertionError))
    monkeypatch.delitem(sys.modules, "probe_command")
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, (_, summary) in cli.COMMANDS.items():
        assert name in out
        assert summary.split()[0] in out


def test_arguments_reach_the_command_and_its_code_comes_back(command):
    command(lambda args: args.count)
    assert cli.main(["probe", "--count", "7"]) == 7
    assert cli.main(["probe"]) == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (depthstyle.ImageError("picture.png: 0x0 pixels;\nuse a real one"), 2),
        (depthstyle.WeightsError("net.pth: cut short"), 2),
        (depthstyle.NumericalError("loss is NaN", iteration=3, layer="relu1_1"), 2),
        (depthstyle.BackendUnavailable("cuda: no driver"), 2),
        (depthstyle.Busy("session in use"), 2),
        (ValueError("steps=-1: must be at least 1"), 2),
        (FileNotFoundError(2, "No such file or directory", "gone.png"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(command, capsys, error, code):
    command(raising(error))
    assert cli.main(["probe"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("depthstyle: ")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["probe", "--count", "x"], ["probe", "--no"]])
def test_a_wrong_command_line_is_one_line_and_code_2(command, capsys, argv):
    command(lambda args: 0)
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def test_a_warning_is_one_line(command, capsys):
    def run(args):
        warnings.warn(
            "depth is constant;\nall of it is near", depthstyle.DepthstyleWarning, stacklevel=1
        )

    command(run)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert cli.main(["probe"]) == 0
    expected = "depthstyle: warning: depth is constant; all of it is near\n"
    assert capsys.readouterr().err == expected


def test_programming_errors_are_not_hidden(command):
    command(raising(TypeError("a bug")))
    with pytest.raises(TypeError, match="a bug"):
        cli.main(["probe"])


def test_python_dash_m():
    run = subprocess.run(
        [sys.executable, "-m", "depthstyle", "--version"], capture_output=True, text=True
    )
    assert (run.returncode, run.stdout) == (0, f"depthstyle {depthstyle.__version__}\n")


def test_every_public_name_can_be_imported():
    for name in depthstyle.__all__:
        assert getattr(depthstyle, name) is not None


def test_every_command_has_a_parser(capsys):
    for name in cli.COMMANDS:
        assert cli.main([name, "--help"]) == 0
        assert name in capsys.readouterr().out


def test_importing_leaves_heavy_modules_alone():
    heavy = ["PIL", "scipy", "skimage", "matplotlib", "imagecodecs", "tifffile"]
    code = (
        f"import sys, depthstyle, depthstyle.cli; print([m for m in {heavy} if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_numerical_error_carries_where():
    error = depthstyle.NumericalError("loss is NaN", iteration=12, layer="relu3_1")
    assert (error.iteration, error.layer) == (12, "relu3_1")
    assert isinstance(error, ArithmeticError)
