"""Reads C well enough to count and check it; ``python tests/c_sources.py`` prints the sizes."""

import re
import statistics
from pathlib import Path

CSRC = Path(__file__).parents[1] / "csrc"
COMMENT = r"/\*.*?\*/|//[^\n]*"
TEXT = r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'"


def strip(text):
    """C without comments, contents of strings, and preprocessor lines; the lines stay."""

    def blank(match):
        found = match[0]
        return '""' if found[0] in "\"'" else "\n" * found.count("\n")

    text = re.sub(f"{COMMENT}|{TEXT}", blank, text, flags=re.DOTALL)
    directive = r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*"
    return re.sub(directive, lambda m: "\n" * m[0].count("\n"), text, flags=re.MULTILINE)


def top_level(text):
    """The functions and declarations of stripped C, with their first line and number of lines.

    What stands in braces is left out, the braces stay.
    """
    pieces, piece, depth, line, start = [], "", 0, 1, 1
    for letter in text:
        if depth == 0 and not piece.strip():
            start = line
        line += letter == "\n"
        depth += (letter == "{") - (letter == "}")
        if depth == 0 and letter not in "};":
            piece += letter
        piece += "{}" if depth == 0 and letter == "}" else ""
        if depth == 0 and (letter == ";" or is_function(piece)):
            pieces.append((piece.strip(), start, line - start + 1))
            piece = ""
    return pieces


def is_function(piece):
    return bool(re.search(r"\)\s*\{\}$", piece)) and "=" not in piece


def comment_lines(text):
    without = re.sub(COMMENT, lambda m: "\0" * (1 + m[0].count("\n")), text, flags=re.DOTALL)
    return without.count("\0")


def main():
    """One line per folder: what the house's budgets are about."""
    row = "{:8}" + "{:>11}" * 7
    titles = ["files", "lines", "file max", "functions", "median", "max lines", "comments"]
    print(row.format("folder", *titles))
    for folder in sorted(path for path in CSRC.iterdir() if path.is_dir()):
        texts = [path.read_text() for path in folder.rglob("*") if path.suffix in (".c", ".h")]
        pieces = [piece for text in texts for piece in top_level(strip(text))]
        functions = [lines for piece, _, lines in pieces if is_function(piece)]
        lines = [len(text.splitlines()) for text in texts]
        if not functions:
            continue
        comments = sum(comment_lines(text) for text in texts) / sum(lines)
        print(
            row.format(
                *(folder.name, len(texts), sum(lines), max(lines), len(functions)),
                *(f"{statistics.median(functions):.0f}", max(functions), f"{comments:.0%}"),
            )
        )


if __name__ == "__main__":
    main()


def flatten(text: str) -> str:
    """Take away the braces of C++ namespaces and of extern "C", which are no functions."""
    text = re.sub(r'extern "C" \{\n((?:#[^\n]*\n)+)\}', r"\1", text)
    text = re.sub(r"^\} // namespace.*$", "", text, flags=re.MULTILINE)
    return re.sub(r"^namespace.*\{$", "", text, flags=re.MULTILINE)
