"""The ``depthstyle`` command: finds the sub-command, runs it, turns errors into exit codes.

A sub-command is a module with a function ``add_parser(subparsers)`` that adds one parser under the
command's name and calls ``set_defaults(run=function)``, where ``function(args)`` does the work and
returns an exit code or None. Only the module of the asked command is imported, which keeps
``depthstyle --help`` fast; the line that the help shows is therefore kept here.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from depthstyle import __version__
from depthstyle.errors import DepthstyleError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("depthstyle.commands.demo", "show what depth does to a style on a photograph"),
    "stylize": ("depthstyle.commands.stylize", "paint a photograph in the style of pictures"),
    "rerun": ("depthstyle.commands.rerun", "make a picture again from the recipe it carries"),
    "sweep": (
        "depthstyle.commands.sweep",
        "show a picture over the parameters of depth-aware AdaIN",
    ),
    "depth": (
        "depthstyle.commands.depth",
        "estimate the depth of a photograph, or read a depth file, and show it",
    ),
    "evaluate": ("depthstyle.evaluation.command", "compare methods or depth estimates in a table"),
    "study": ("depthstyle.study.command", "ask people which of two pictures they like more"),
    "doctor": ("depthstyle.commands.doctor", "say what this machine has and what can be used"),
    "weights": ("depthstyle.weights.command", "list, download and look into files of weights"),
}
"""Name of each sub-command: its module and its line in ``depthstyle --help``."""


_SILENT = logging.NullHandler()


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line instead of a usage text."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _build_parser(command: str | None) -> argparse.ArgumentParser:
    parser = _Parser(prog="depthstyle", description="Depth-aware neural style transfer.")
    parser.add_argument("--version", action="version", version=f"depthstyle {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, summary) in COMMANDS.items():
        if name == command:
            importlib.import_module(module).add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
    return parser


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"depthstyle: warning: {' '.join(str(message).split())}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name; ``sys.argv[1:]`` by default.

    Returns
    -------
    int
        0 on success, 2 after bad input (one line on standard error says what and how to mend it),
        130 after Ctrl-C, or what the sub-command returned.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    command = next((word for word in argv if not word.startswith("-")), None)
    # Libraries that log about damaged files would spoil the promise of one line.
    logging.getLogger().addHandler(_SILENT)
    with warnings.catch_warnings():
        warnings.showwarning = _print_warning
        return _run(argv, command)


def _run(argv: list[str], command: str | None) -> int:
    try:
        args = _build_parser(command).parse_args(argv)
        return args.run(args) or 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_BAD_INPUT
    except (DepthstyleError, ValueError, OSError, MemoryError) as error:
        words = " ".join(str(error).split()) or type(error).__name__
        print(f"depthstyle: {words}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("depthstyle: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
