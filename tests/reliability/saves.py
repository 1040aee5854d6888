"""What checkpoints promise, under kills, failing disks, power cuts, damage and races.

    python tests/reliability/saves.py            every campaign in full
    python tests/reliability/saves.py kills=50   the named ones, with other counts

Each campaign raises AssertionError at the first promise that is broken, and returns the line that
reports what was done.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import seeded
from campaign import main

import depthstyle as ds
from depthstyle import checkpoint, files
from depthstyle.checkpoint import Checkpoints, Contents
from depthstyle.errors import Busy, CheckpointError

SIZE = (24, 28)
WEIGHTS = seeded.encoder_weights()
HOSTILE = [0, 1, -1, 2**31, 2**62, 2**63, 1.5, None, True, "F16", "F32", [], {}, [2**62], "x" * 99]


def numbered(number: int) -> Contents:
    """Contents that tell their number and are large enough to be torn."""
    arrays = {"a": np.full(700, number, "f4"), "b": np.full((30, 20), number, "f8")}
    return Contents({"number": number}, arrays)


def number_in(path: Path) -> int:
    """The number of the contents that are read; all parts must be of one save."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = checkpoint.read(path)
    numbers = {found.values["number"], *found.tensors["a"].tolist(), *found.tensors["b"].flat}
    assert len(numbers) == 1, f"parts of several saves: {numbers}"
    return found.values["number"]


def in_child(work) -> int:
    """Run a function in a child process and return its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


# Kills of a whole run


def session(kind: str) -> ds.Session:
    picture, style = seeded.picture(1, *SIZE), seeded.picture(2, *SIZE)
    options = {"optimizer": kind, "history": 3, "iterations": 6, "init": "noise"}
    return ds.Session(picture, style, weights=WEIGHTS, threads=1, **options)


def finish(kind: str, folder: Path) -> None:
    """Run to the end with a save after every iteration; write the SHA-256 of all that is left."""
    warnings.simplefilter("ignore")
    run = session(kind)
    keeper = Checkpoints(folder / "x", resume=True, seconds=0)
    with keeper.of(run):
        while run.iteration < run.iterations:
            run.step()
            keeper.after_step(run)
    found = hashlib.sha256(json.dumps(run.losses).encode())
    for _, tensor in sorted(run.state().tensors.items()):
        found.update(np.ascontiguousarray(tensor))
    files.write_atomically(folder / "result", found.hexdigest().encode())


def kills(count: int, folder: Path) -> str:
    """Kill runs at random moments; what goes on from them must end as if nothing had happened."""
    randoms, expected, length = random.Random(1), {}, {}
    for kind in ("adam", "lbfgs"):
        start = time.monotonic()
        assert os.waitpid(in_child(lambda kind=kind: finish(kind, folder)), 0)[1] == 0
        length[kind] = time.monotonic() - start
        expected[kind] = (folder / "result").read_bytes()
        shutil.rmtree(folder)
        folder.mkdir()
    killed = complete = resumed = 0
    kind = "adam"
    while killed < count or (folder / "x").exists():
        resumed += (folder / "x").exists()
        child = in_child(lambda kind=kind: finish(kind, folder))
        if killed < count:
            time.sleep(randoms.uniform(0, 1.2 * length[kind]))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        killed += status == signal.SIGKILL
        assert status in (0, signal.SIGKILL), f"exit status {status}"
        if status == 0:
            assert (folder / "result").read_bytes() == expected[kind], "another result"
            complete += 1
            kind = "lbfgs" if kind == "adam" else "adam"
            checkpoint.remove(folder / "x")
    return f"{killed} kills, {resumed} resumed, {complete} runs complete, 0 mismatches"


# One save


class Disk:
    """Counts the file operations of a save; does something before one of them.

    A write is two operations, so that it can also break in the middle.
    """

    def __init__(self, at: int = -1, act=None) -> None:
        self.count, self._at, self._act = 0, at, act

    def do(self, call, *arguments):
        if self.count == self._at:
            self._act()
        self.count += 1
        return call(*arguments)

    def __enter__(self) -> Disk:
        self._whole = {name: getattr(os, name) for name in ("fsync", "replace", "open")}
        for name, call in self._whole.items():
            setattr(os, name, lambda *a, call=call: self.do(call, *a))
        files.open = self._open
        return self

    def __exit__(self, *_: object) -> None:
        for name, call in self._whole.items():
            setattr(os, name, call)
        del files.open

    def _open(self, path, mode):
        return _File(self, self.do(lambda: open(path, mode, buffering=0)))


class _File:
    def __init__(self, disk, file) -> None:
        self._disk, self._file = disk, file
        self.fileno, self.flush = file.fileno, file.flush

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self._disk.do(self._file.close)

    def write(self, data) -> None:
        data = bytes(data)
        half = len(data) // 2
        self._disk.do(self._file.write, data[:half])
        self._disk.do(self._file.write, data[half:])


def _two_saves(folder: Path) -> tuple[Path, int]:
    """Save twice into an empty folder; return the path and the operations of a save."""
    checkpoint.remove(folder / "x")
    path = folder / "x"
    checkpoint.write(path, numbered(0))
    with Disk() as disk:
        checkpoint.write(path, numbered(1))
    return path, disk.count


def kill_at_operations(count: int, folder: Path) -> str:
    """Kill a save before each of its file operations: the save before it must be there."""
    rounds = operations = 0
    while rounds < count:
        path, operations = _two_saves(folder)

        def work(at=rounds % (operations + 1), path=path):
            with Disk(at, lambda: os.kill(os.getpid(), signal.SIGKILL)):
                checkpoint.write(path, numbered(2))

        status = os.waitpid(in_child(work), 0)[1]
        assert status == (0 if rounds % (operations + 1) == operations else signal.SIGKILL)
        assert number_in(path) == (2 if status == 0 else number_in(path)) >= 1
        checkpoint.write(path, numbered(3))
        assert number_in(path) == 3
        rounds += 1
    return f"{rounds} kills before each of {operations} file operations, 0 lost saves"


def failing_disk(count: int, folder: Path) -> str:
    """Let each operation fail in each way: an error that says so, and the file before intact."""
    codes = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EACCES)
    rounds, at = 0, 0
    while rounds < count:
        path, operations = _two_saves(folder)
        code = codes[rounds % len(codes)]

        def fail(code=code):
            raise OSError(code, os.strerror(code))

        try:
            with Disk(at, fail):
                checkpoint.write(path, numbered(2))
            raise AssertionError("the failure was swallowed")
        except CheckpointError as error:
            assert os.strerror(code) in str(error) and str(path) in str(error), str(error)
        assert number_in(path) >= 1
        assert not (folder / "x.new").exists()
        checkpoint.write(path, numbered(3))
        assert number_in(path) == 3
        rounds += 1
        if rounds % len(codes) == 0:
            at = (at + 1) % operations
    return f"{rounds} failures, {len(codes)} kinds at each of {operations} operations, 0 lost saves"


def small_disk(count: int, folder: Path) -> str:
    """Fill a real file system of 1 MB (where this user may mount one) while saving."""
    place = folder / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        return "no right to mount a small file system: not run"
    try:
        path = place / "x"
        failures = 0
        for number in range(count):
            before = number_in(path) if number else -1
            arrays = {"a": np.full(700, number, "f4"), "b": np.full((30, 20), number, "f8")}
            large = number % 3 == 2
            padding = {"c": np.zeros(2**18 if large else 2**10, "f4")}
            try:
                checkpoint.write(path, Contents({"number": number}, {**arrays, **padding}))
                assert number_in(path) == number
            except CheckpointError as error:
                assert "No space left" in str(error)
                assert number_in(path) == before
                failures += 1
        assert failures == count // 3
        return f"{count} saves on a file system of 1 MB, {failures} did not fit, 0 lost"
    finally:
        subprocess.run(["umount", place], check=True)


# System calls


_SAVE = """
import os, sys
sys.path[:0] = {path!r}
import saves
from depthstyle import checkpoint
os.path.exists("/begin of the save")
checkpoint.write(sys.argv[1], saves.numbered(2))
os.path.exists("/end of the save")
"""


def kill_at_system_calls(count: int, folder: Path) -> str:
    """Kill a save at each of its system calls, with strace; `count` of them at most."""
    if shutil.which("strace") is None:
        return "no strace: not run"
    path, _ = _two_saves(folder)
    code = _SAVE.format(path=sys.path)
    command = [sys.executable, "-P", "-c", code, str(path)]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    log = folder / "log"
    plain = ["strace", "-qq", "-o", log]
    subprocess.run([*plain, *command], check=True, env=environment)
    seen: dict[str, int] = {}
    inside, calls = False, []
    for line in log.read_text().splitlines():
        name = re.match(r"\w+", line)
        if name is None:
            continue
        seen[name[0]] = seen.get(name[0], 0) + 1
        if "/end of the save" in line:
            break
        if inside:
            calls.append((name[0], seen[name[0]]))
        inside = inside or "/begin of the save" in line
    step = max(1, len(calls) // count)
    chosen = calls[::step]
    for name, when in chosen:
        path, _ = _two_saves(folder)
        inject = ["-e", f"inject={name}:signal=KILL:when={when}"]
        subprocess.run([*plain, *inject, *command], env=environment, stderr=subprocess.DEVNULL)
        assert number_in(path) >= 1
        checkpoint.write(path, numbered(3))
        assert number_in(path) == 3
    return f"kills at {len(chosen)} of {len(calls)} system calls of a save, 0 lost saves"


# Power cuts


class Recorder(Disk):
    """Writes down what a disk is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple] = []
        self._names: dict[int, str] = {}

    def __enter__(self) -> Recorder:
        super().__enter__()
        whole = self._whole

        def replace(old, new):
            self.log.append(("rename", Path(old).name, Path(new).name))
            return whole["replace"](old, new)

        def fsync(handle):
            self.log.append(("fsync", self._names.get(handle)))
            return whole["fsync"](handle)

        os.replace, os.fsync = replace, fsync
        return self

    def _open(self, path, mode):
        name = Path(path).name
        file = open(path, mode, buffering=0)  # noqa: SIM115
        self._names = {file.fileno(): name}
        self.log.append(("create", name))
        recorded = _File(self, file)
        write = recorded.write

        def record(data):
            self.log.append(("write", name, bytes(data)))
            write(data)

        def close(*_):
            self._names = {}
            file.close()

        recorded.write = record
        recorded.__class__ = type("_Recorded", (_File,), {"__exit__": close})
        return recorded


def _after_power_cut(log, randoms) -> dict[str, bytes]:
    """Return the files after a power cut: what was flushed, and any part of what was not.

    Names change in order, up to any point after the last flush of the folder. Data that was not
    flushed is there up to any byte, and blocks of it may be zeros or noise.
    """
    names: dict[str, list] = {}
    now: dict[str, list] = {}
    changes: list[tuple] = []
    for kind, *rest in log:
        if kind == "create":
            now[rest[0]] = [b"", 0]
            changes.append(("create", rest[0], now[rest[0]]))
        elif kind == "write":
            now[rest[0]][0] += rest[1]
        elif kind == "fsync" and rest[0] is not None:
            now[rest[0]][1] = len(now[rest[0]][0])
        elif kind == "rename":
            now[rest[1]] = now.pop(rest[0])
            changes.append(("rename", *rest))
        else:
            names, changes = dict(now), []
    for kind, name, other in changes[: randoms.randint(0, len(changes))]:
        names[other if kind == "rename" else name] = names.pop(name) if kind == "rename" else other
    return {name: _torn(*data, randoms) for name, data in names.items()}


def _torn(data: bytes, flushed: int, randoms) -> bytes:
    kept = bytearray(data[: randoms.randint(flushed, len(data))])
    for start in range(flushed, len(kept), 512):
        block = slice(start, min(start + 512, len(kept)))
        length = block.stop - block.start
        kept[block] = randoms.choice([kept[block], bytes(length), randoms.randbytes(length)])
    return bytes(kept)


def power_cuts(count: int, folder: Path) -> str:
    """Replay recorded saves up to any point, lose what was not flushed: one of the saves loads."""
    randoms = random.Random(2)
    with Recorder() as recorder:
        finished = []
        for number in range(4):
            checkpoint.write(folder / "x", numbered(number))
            finished.append(len(recorder.log))
    for _ in range(count):
        at = randoms.randint(finished[0], len(recorder.log))
        for file in folder.iterdir():
            file.unlink()
        for name, data in _after_power_cut(recorder.log[:at], randoms).items():
            (folder / name).write_bytes(data)
        complete = sum(end <= at for end in finished) - 1
        assert number_in(folder / "x") >= complete
    return f"{count} power cuts in {len(recorder.log)} operations, all load the last save or newer"


# Damage


def _real_checkpoint(folder: Path) -> Path:
    run = session("lbfgs")
    run.step(8)
    run.save(folder / "x")
    return folder / "x"


def _must_be_refused(path: Path) -> None:
    try:
        checkpoint.read_one(path)
    except CheckpointError as error:
        assert str(path) in str(error)
    else:
        raise AssertionError("damage was not seen")


def damage(count: int, folder: Path) -> str:
    """Flip a bit of every header byte, `count` bits of the arrays, cut at every 4 KiB."""
    path, randoms = _real_checkpoint(folder), random.Random(3)
    data = path.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    places = [*range(header), *(randoms.randrange(header, len(data)) for _ in range(count))]
    with open(path, "r+b") as file:
        for place in places:
            os.pwrite(file.fileno(), bytes([data[place] ^ 1 << randoms.randrange(8)]), place)
            _must_be_refused(path)
            os.pwrite(file.fileno(), data[place : place + 1], place)
    cuts = [*range(0, len(data), 4096), *range(200), len(data) - 1]
    for cut in cuts:
        path.write_bytes(data[:cut])
        _must_be_refused(path)
    path.write_bytes(data + b"\0")
    _must_be_refused(path)
    return f"{header} header bytes, {count} bits of arrays, {len(cuts)} cuts: all refused"


def fuzz(count: int, folder: Path) -> str:
    """Give the reader headers that are wrong but signed: contents, or an error that says so."""
    path, randoms, accepted = folder / "x", random.Random(4), 0
    checkpoint.write(path, numbered(0))
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    whole, arrays = json.loads(data[8 : 8 + length]), data[8 + length :]
    for _ in range(count):
        header = json.loads(json.dumps(whole))
        for _ in range(randoms.randint(1, 3)):
            _mutate(header, randoms)
        text = json.dumps(header, separators=(",", ":")).encode()
        digest = re.compile(rb'^(\{"__metadata__":\{"sha256":")[0-9a-f]{64}')
        blank = digest.sub(rb"\g<1>" + b"0" * 64, text)
        right = hashlib.sha256(blank).hexdigest().encode()
        text = digest.sub(rb"\g<1>" + right, text)
        path.write_bytes(len(text).to_bytes(8, "little") + text + arrays)
        try:
            checkpoint.read_one(path)
            accepted += 1
        except CheckpointError:
            pass
    return f"{count} wrong headers, {accepted} of them harmless, the others refused"


def _mutate(header: dict, randoms) -> None:
    holders: list = []

    def walk(value):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            if key != "sha256":
                holders.append((value, key))
            if isinstance(value[key], dict | list):
                walk(value[key])

    walk(header)
    holder, key = randoms.choice(holders)
    kind = randoms.randrange(4)
    if kind == 0 and isinstance(holder, dict):
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[randoms.choice(["a", "b", "c"])] = json.loads(json.dumps(holder[key]))
    elif kind == 2 and isinstance(holder[key], str):
        text = holder[key]
        place = randoms.randrange(len(text) + 1)
        holder[key] = text[:place] + randoms.choice(["", "{", '"', "[" * 3000, "9"]) + text[place:]
    else:
        holder[key] = json.loads(json.dumps(randoms.choice(HOSTILE)))


# The lock


def races(count: int, folder: Path) -> str:
    """Let processes race for a lock, some of which are killed with it: one has it at a time."""
    counter, won = folder / "counter", 0
    counter.write_text("0")

    def work(dies):
        try:
            with checkpoint.Lock(folder / "x"):
                value = int(counter.read_text())
                time.sleep(0.002)
                counter.write_text(str(value + 1))
                if dies:
                    os.kill(os.getpid(), signal.SIGKILL)
        except Busy:
            os._exit(7)

    for number in range(count):
        children = [in_child(lambda dies=number % 3 == i: work(dies)) for i in range(4)]
        codes = [os.waitpid(child, 0)[1] for child in children]
        assert set(codes) <= {0, 7 << 8, signal.SIGKILL}, codes
        won += sum(code != 7 << 8 for code in codes)
        assert int(counter.read_text()) == won, "two had the lock"
    return f"{count} races of 4 processes, {won} won, never two at a time"


CAMPAIGNS = {
    kills: 500,
    kill_at_operations: 100,
    kill_at_system_calls: 1000,
    failing_disk: 200,
    small_disk: 30,
    power_cuts: 10_000,
    damage: 100_000,
    fuzz: 100_000,
    races: 200,
}

if __name__ == "__main__":
    main(CAMPAIGNS)
