"""``depthstyle weights``: published weights and files of weights."""

from __future__ import annotations

import argparse
from pathlib import Path

_CONFIRM = "--accept-non-commercial"


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to the parser of ``depthstyle``."""
    parser = subparsers.add_parser(
        "weights",
        description="List, download, import and look into files of weights. Nothing in a file is "
        "ever executed. Files are kept in a cache; DEPTHSTYLE_CACHE moves it and "
        "DEPTHSTYLE_OFFLINE=1 forbids downloads.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="the published files that are known by name")
    listing.set_defaults(run=run_list)

    get = actions.add_parser("get", help="download a published file into the cache")
    get.add_argument("name", metavar="NAME", help="a name of depthstyle weights list")
    get.add_argument("--offline", action="store_true", default=None, help="use the cache only")
    _add_confirmation(get)
    get.set_defaults(run=run_get)

    add = actions.add_parser("import", help="copy a published file that you have into the cache")
    add.add_argument("file", metavar="FILE")
    add.add_argument("--name", metavar="NAME", help="which published file it is")
    _add_confirmation(add)
    add.set_defaults(run=run_import)

    show = actions.add_parser("show", help="what a file of weights holds")
    show.add_argument("file", metavar="FILE", help="a file or folder, or a name in the cache")
    show.set_defaults(run=run_show)


def run_list(args: argparse.Namespace) -> None:
    """Print the registry."""
    from depthstyle.weights import cache
    from depthstyle.weights.registry import PUBLISHED

    width = max(map(len, PUBLISHED))
    for file in PUBLISHED.values():
        state = "in cache" if cache.find(file.name) else ""
        digest = f"SHA-256 {file.sha256[:8] or 'none':8}"
        if file.md5:
            digest = f"MD5 {file.md5[:12]}"
        size = "size unknown" if file.size is None else f"{file.size / 2**20:.1f} MiB"
        print(f"{file.name:{width}} {size:>12}  {state:8}  {digest}  {file.licence}")
    print(f"cache: {cache.folder()}")


def run_get(args: argparse.Namespace) -> None:
    """Download a file unless it is in the cache."""
    from depthstyle.weights import cache
    from depthstyle.weights.registry import published

    file = published(args.name)
    print(f"{file.name}: {file.url}\nlicence: {file.licence}")
    path = cache.get(
        args.name, accept_non_commercial=args.accept_non_commercial, offline=args.offline
    )
    print(path)
    if path.is_file():
        print(f"SHA-256 {cache.sha256(path)}{'' if file.sha256 else ' (none is published)'}")


def run_import(args: argparse.Namespace) -> None:
    """Copy a file into the cache."""
    from depthstyle.weights import cache

    path = cache.add(args.file, args.name, accept_non_commercial=args.accept_non_commercial)
    print(path)


def run_show(args: argparse.Namespace) -> None:
    """Print the names, shapes and types of a file, or of each file of a folder."""
    from depthstyle.weights import cache, files_of
    from depthstyle.weights.registry import PUBLISHED

    path = Path(args.file)
    if not path.exists() and args.file in PUBLISHED:
        path = cache.get(args.file, offline=True, accept_non_commercial=True)
    for file in files_of(path):
        _show(file)


def _show(path: Path) -> None:
    from depthstyle import networks
    from depthstyle.errors import WeightsError
    from depthstyle.weights import cache, open

    file = open(path)
    try:
        network = networks.identify(file).name
    except WeightsError:
        network = "not one of depthstyle's"
    print(f"{path}: {file.format}, {len(file)} tensors, {file.bytes} bytes")
    print(f"network: {network}")
    if path.is_file():
        print(f"SHA-256 {cache.sha256(path)}")
    width = max(map(len, [*file, *file.numbers]))
    for name, tensor in file.tensors.items():
        shape = "x".join(map(str, tensor.shape)) or "scalar"
        print(f"{name:{width}}  {tensor.storage.element.name:8}  {shape}")
    for name, number in file.numbers.items():
        print(f"{name:{width}}  number    {number:g}")


def _add_confirmation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        _CONFIRM, action="store_true", help="confirm a licence that forbids commercial use"
    )
