"""What is promised of time and memory: estimates, and limits of the address space.

python tests/reliability/resources.py               every campaign in full
python tests/reliability/resources.py limits=40     the named ones, with other counts
"""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import PIL.Image  # noqa: F401
import tqdm  # noqa: F401

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import seeded
from campaign import main
from safetensors.numpy import save_file

import depthstyle as ds
import depthstyle.adain
import depthstyle.gatys  # children inherit all modules: none must load there
from depthstyle import estimates as estimates_of

_MORE = 50 << 20
"""Bytes beyond its need up to which the limit of a run is raised."""

_MEMORY_ERROR = 0.02
"""The promise of estimates of memory; that of time holds on an idle machine only."""

_OK, _REFUSED, _LATE, _OTHER = 0, 3, 4, 5


# Limits


def _runs() -> dict:
    """One call of each method, which takes a hook and no file."""
    picture, style = seeded.picture(1, 160, 200), seeded.picture(2, 160, 160)
    weights = seeded.encoder_weights()

    def gatys(on_step, **options):
        options = {"weights": weights, "iterations": 2, "progress": False, **options}
        ds.stylize(picture, style, on_step=on_step, **options)

    return {
        "gatys with L-BFGS": lambda hook: gatys(hook, history=10),
        "gatys with Adam": lambda hook: gatys(hook, optimizer="adam"),
        "lapstyle": lambda hook: gatys(hook, method="lapstyle", history=10),
        "adain": lambda hook: ds.stylize(picture, style, "adain", progress=False),
    }


def _virtual() -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmSize:\s+(\d+)", status)[1]) * 1024


def _peak_of(run) -> int:
    """Address space that a run adds, measured in a child process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        before = _virtual()
        run(None)
        status = Path("/proc/self/status").read_text()
        peak = int(re.search(r"VmPeak:\s+(\d+)", status)[1]) * 1024
        os.write(writing, str(peak - before).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    return int(os.read(reading, 30))


def _under_limit(run, room: int) -> None:
    """Run with a limit of the address space; the exit status says how it ended."""
    steps: list[int] = []
    signal.alarm(300)  # a hang would end with a signal, too
    limit = _virtual() + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    code = _OTHER
    try:
        run(lambda state: steps.append(1))
        code = _OK
    except MemoryError:
        code = _LATE if steps else _REFUSED
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def limits(count: int, folder: Path) -> str:
    """Sweep the limit of the address space, with each method: the picture, or an exception."""
    ended = dict.fromkeys((_OK, _REFUSED, _LATE), 0)
    runs = _runs()
    for name, run in runs.items():
        needed = _peak_of(run)
        for number in range(count):
            child = os.fork()
            if child == 0:
                _under_limit(run, int((needed + _MORE) * number / (count - 1)))
            status = os.waitpid(child, 0)[1]
            code = os.waitstatus_to_exitcode(status)
            assert code in ended, f"{name}, limit {number} of {count}: exit code {code}"
            ended[code] += 1
        assert code == _OK, f"{name}: {needed} bytes and {_MORE} more are too little"
    return (
        f"{count} limits for each of {len(runs)} methods: {ended[_OK]} pictures, "
        f"{ended[_REFUSED]} refused before the first iteration, {ended[_LATE]} MemoryErrors later, "
        "no signal"
    )


# Estimates


def _cases(count: int):
    """Commands: both networks and optimisers, all precisions, full and half-empty histories."""
    randoms = random.Random(5)
    networks = {"encoder": (300, 520), "vgg19": (160, 320), "adain": (300, 700)}
    for number in range(count):
        network = ("encoder", "vgg19", "encoder", "adain")[number % 4]
        low, high = networks[network]
        size = (randoms.randrange(low, high), randoms.randrange(low, high))
        if network == "adain":
            yield size, ["--method", "adain"]
            continue
        words = ["--weights", f"{network}.safetensors"]
        words += ["--iterations", str(randoms.randrange(12, 30))]
        words += ["--scales", str(randoms.choice((1, 2)))]
        words += ["--optimizer", randoms.choice(("adam", "lbfgs"))]
        words += ["--history", str(randoms.choice((5, 20, 100)))]
        words += ["--precision", randoms.choice(("fp32", "fp32", "bf16", "mixed"))]
        words += randoms.choice(([], ["--method", "lapstyle"], ["--tv-weight", "0.1"]))
        yield size, words


def _sessions(count: int):
    """Settings of short runs: both optimisers and networks, all terms, one to three sizes."""
    randoms = random.Random(6)
    for number in range(count):
        network = "vgg19" if number % 3 == 2 else "encoder"
        low, high = (120, 240) if network == "vgg19" else (160, 400)
        size = (randoms.randrange(low, high), randoms.randrange(low, high))
        options = {"iterations": randoms.randrange(15, 60), "scales": randoms.choice((1, 2, 3))}
        options["optimizer"] = randoms.choice(("adam", "lbfgs"))
        options["history"] = randoms.choice((5, 20, 100))
        options |= randoms.choice(({}, {"preset": "lapstyle"}, {"tv_weight": 0.1}))
        yield network, size, options


def times(count: int, folder: Path) -> str:
    """Compare estimates with runs, both in the processor's time, which other programs spare.

    A run is done before and after its estimate, to tell how much two runs differ.
    """
    networks = {"encoder": seeded.encoder_weights(), "vgg19": seeded.vgg_weights("vgg19")}
    errors, noises = [], []
    for network, size, options in _sessions(count):

        def session(network=network, size=size, options=options):
            picture, style = seeded.picture(1, *size), seeded.picture(2, 200, 200)
            return ds.Session(picture, style, weights=networks[network], threads=1, **options)

        took = [_processor_time_of(session())]
        run = session()
        expected = _in_processor_time(lambda run=run: estimates_of.time_of(run))
        took.append(_processor_time_of(session()))
        errors.append(expected / np.mean(took) - 1)
        noises.append(took[0] / took[1] - 1)
        print(
            f"  {network} {size} {options}: {expected:.2f} s of {took[0]:.2f} and {took[1]:.2f} s "
            f"({errors[-1]:+.1%})",
            flush=True,
        )
    return f"{count} runs: error of time {_spread(errors)}; two runs differ by {_spread(noises)}"


def _processor_time_of(run) -> float:
    begin = time.process_time()
    run.step(run.iterations)
    return time.process_time() - begin


def _spread(errors) -> str:
    errors = np.abs(errors)
    return f"median {np.median(errors):.1%}, worst {errors.max():.1%}"


def _in_processor_time(call):
    clock = time.perf_counter
    time.perf_counter = time.process_time
    try:
        return call()
    finally:
        time.perf_counter = clock


_MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def _run_and_measure(command: list[str]) -> tuple[str, float]:
    """Return what a command prints and the most MiB that it had.

    A small process starts it: the system counts what the parent had as the child's.
    """
    measure = [sys.executable, "-S", "-c", _MEASURE, *command]
    done = subprocess.run(measure, capture_output=True, text=True, check=True)
    return done.stdout, int(done.stdout.splitlines()[-1]) / 1024


def estimates(count: int, folder: Path) -> str:
    """Compare --dry-run with what the command then takes, on an otherwise idle machine."""
    os.chdir(folder)
    save_file(seeded.vgg_weights("vgg19"), "vgg19.safetensors")
    save_file(seeded.encoder_weights(), "encoder.safetensors")
    ds.write_image("style.png", seeded.picture(2, 400, 300))
    times, sizes = [], []
    for size, words in _cases(count):
        ds.write_image("photo.png", seeded.picture(1, *size))
        command = [sys.executable, "-P", "-m", "depthstyle", "stylize", "photo.png", "style.png"]
        command += ["-o", "out.png", *words]
        dry = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=True)
        minutes, seconds, mib = re.search(
            r"take (?:(\d+) min )?([\d.]+) s, (\d+) MiB", dry.stdout
        ).groups()
        expected = 60 * int(minutes or 0) + float(seconds)
        output, used = _run_and_measure(command)
        took = float(re.search(r"([\d.]+) s, wrote", output)[1])
        times.append(expected / took - 1)
        sizes.append(int(mib) / used - 1)
        print(
            f"  {size} {' '.join(words)}: time {expected:.1f} s of {took:.1f} s "
            f"({times[-1]:+.1%}), memory {int(mib)} of {used:.0f} MiB "
            f"({sizes[-1]:+.1%})",
            flush=True,
        )

    report = f"{count} runs: error of time {_spread(times)}, of memory {_spread(sizes)}"
    assert np.abs(sizes).max() <= _MEMORY_ERROR, report
    return report


CAMPAIGNS = {limits: 200, times: 36, estimates: 36}

if __name__ == "__main__":
    main(CAMPAIGNS)
