"""JSON from files that are not trusted."""

from __future__ import annotations

import json
from typing import Any

from depthstyle.weights.formats.source import Source


def parse(data: bytes, source: Source) -> dict[str, Any]:
    """Return the object that a JSON text holds, in which no name occurs twice.

    Raises
    ------
    WeightsError
        The text is no JSON object, is nested too deeply, or repeats a name.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name occurs twice")
        return found

    try:
        value = json.loads(data, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise source.error(f"damaged: no valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise source.error("damaged: its JSON is no object")
    return value


def sizes(value: Any, source: Source, name: str) -> tuple[int, ...]:
    """Return a list of whole numbers as a shape.

    Raises
    ------
    WeightsError
        It is none.
    """
    if isinstance(value, list) and all(type(size) is int and size >= 0 for size in value):
        return tuple(value)
    raise source.error(f"damaged: shape {str(value)[:80]} of {name[:80]!r}")
