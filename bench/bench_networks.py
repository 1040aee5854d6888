"""Networks beside PyTorch, ONNX Runtime and OpenVINO: batch 1, one picture after the other.

`python bench/bench_networks.py johnson --json` prints a table and, for each network, one JSON
object; `all` takes them in turn. `--precision bf16` or `mixed` takes for peers what PyTorch and
OpenVINO have in bf16; ONNX Runtime has none for a CPU. Needs the peers beside depthstyle:

    pip install torch==2.13.0 onnxruntime openvino onnx onnxscript

All engines get the same seeded weights, as published files or as ONNX, and their outputs are
checked against PyTorch's first. `start` times the way from the start of a process to a written
picture of 512x512, and `--fresh` writes the files of the networks anew.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from network_problem import SIZES, architecture
from side_by_side import HERE, Contender, compare, report, setting

RESULTS = HERE / "results"
FILES = Path(tempfile.gettempdir()) / "depthstyle-networks"


def prepare(name: str, fresh: bool) -> Path:
    """Return the folder of a network's files, written before unless they are there.

    They are written anew when the definitions of the networks have changed.
    """
    folder = FILES / name
    done, version = folder / "done", sources()
    if fresh or not done.exists() or done.read_text() != version:
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "network_modules.py", name, str(folder)]
        subprocess.run(command, cwd=HERE, check=True, stdout=subprocess.DEVNULL)
        done.write_text(version)
    return folder


def sources() -> str:
    """Return the SHA-256 of what defines the networks."""
    tests = HERE.parent / "tests"
    files = [*tests.glob("golden/torch_networks/*.py"), tests / "depth_weights.py"]
    files += [HERE / "network_modules.py", HERE / "network_problem.py"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()


FP32 = [
    ("fp32", "contiguous", "eager"),
    ("fp32", "channels_last", "eager"),
    ("fp32", "contiguous", "compiled"),
]
BF16 = [
    ("autocast", "channels_last", "eager"),
    ("bf16", "channels_last", "eager"),
    ("autocast", "channels_last", "compiled"),
    ("bf16", "channels_last", "compiled"),
]
"""PyTorch's precisions, layouts and modes."""


def network(name: str, args: argparse.Namespace) -> dict:
    """One run of a network."""
    common = [name, str(prepare(name, args.fresh)), str(args.threads)]
    theirs = "fp32" if args.precision == "fp32" else "bf16"
    peers = [
        Contender(
            f"PyTorch {precision} {mode} {layout}",
            ["worker_network_torch.py", *common, precision, layout, mode],
        )
        for precision, layout, mode in (FP32 if theirs == "fp32" else BF16)
    ]
    if theirs == "fp32":
        peers.append(Contender("ONNX Runtime", ["worker_network_onnxruntime.py", *common]))
    command = ["worker_network_openvino.py", *common, theirs]
    peers.append(Contender(f"OpenVINO {theirs}", command))
    command = ["worker_network_ours.py", *common, args.precision]
    ours = Contender(f"depthstyle {args.precision}", command)
    height, width = SIZES[name]
    title = f"{architecture(name)} {width}x{height}, {setting(args)}"
    return compare(title, ours, peers, args.rounds, leave=True)


def start(args: argparse.Namespace) -> dict:
    """From the start of a process to the first picture of the Johnson network, written as PNG."""
    common = [str(prepare("johnson", args.fresh)), str(args.threads)]
    peers = [
        Contender(engine, ["worker_start.py", engine, *common])
        for engine in ("torch", "onnxruntime", "openvino")
    ]
    ours = Contender("depthstyle", ["worker_start.py", "depthstyle", *common])
    return compare("process start to first Johnson picture 512x512", ours, peers, args.rounds)


def main() -> None:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="+", choices=(*SIZES, "start", "all"), metavar="NAME")
    parser.add_argument("--precision", choices=("fp32", "bf16", "mixed"), default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--save", metavar="NAME", help="write bench/results/NAME.md")
    args = parser.parse_args()
    names = (*SIZES, "start") if "all" in args.names else args.names
    rows = [start(args) if name == "start" else network(name, args) for name in names]
    options = f"--precision {args.precision} --threads {args.threads} --rounds {args.rounds}"
    command = f"python bench/bench_networks.py {' '.join(args.names)} {options} --json"
    report(rows, command, args.json, RESULTS / f"{args.save}.md" if args.save else None)


if __name__ == "__main__":
    main()
