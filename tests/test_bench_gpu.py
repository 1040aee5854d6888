"""bench/bench_gpu.py without a GPU: its tables, its workers, and a whole run on the emulator."""

import json
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
if not (BENCH / "bench_gpu.py").is_file():
    pytest.skip("the benchmarks are not beside the tests", allow_module_level=True)
sys.path.append(str(BENCH))

import bench_gpu  # noqa: E402
import gpu_table  # noqa: E402
from gpu_contender import Contender, Failed  # noqa: E402

import depthstyle  # noqa: E402


def test_committed_tables_belong_to_their_numbers():
    for path in BENCH.glob("results/gpu_*.json"):
        written = path.with_suffix(".md").read_text()
        assert written == gpu_table.text(json.loads(path.read_text())), path.name


def contender(*milliseconds):
    seconds = [value / 1e3 for value in milliseconds]
    return {"seconds": seconds, "error": 1e-3, "bytes": 2**21, "start": 0.5, "first": 2.0}


@pytest.fixture
def part():
    return {
        "title": "Gatys 512",
        "date": "2026-11-21",
        "state": "clocks.sm 1980 MHz",
        "ours": "depthstyle bf16",
        "targets": [0.95, 1.4, 3.5],
        "contenders": {
            "depthstyle bf16": contender(0.8, 0.9, 1.0),
            "B0 eager": contender(3.2, 2.7, 3.0),
            "B2 compile": contender(1.6, 1.8, 2.2),
            "B3 max-autotune": {"failed": "stopped at its time limit"},
            "B4 captured": contender(2.0, 2.0, 2.0),
        },
    }


def test_ratios_are_claimed_against_the_best_rival_round_by_round(part):
    row = gpu_table.summary([part])[-1]
    assert "**0.900** (at most 0.950)" in row  # met
    assert "1.800, B2 compile" in row
    assert "**2.00** (at least 1.40)" in row
    assert "| 3.00 (at least 3.50) |" in row  # missed: the median of 4, 3 and 3


def test_what_failed_is_a_row_of_the_table(part):
    lines = "\n".join(gpu_table.details(part))
    assert "| B3 max-autotune | failed: stopped at its time limit |" in lines
    assert "3 rounds. clocks.sm 1980 MHz" in lines
    for name in gpu_table.RIVALS:
        part["contenders"][name] = {"failed": "no"}
    assert "not measured" in gpu_table.summary([part])[-1]


def test_layers_are_compared_with_the_slower_of_arithmetic_and_memory():
    ceilings = {gpu_table.PRODUCT: 800.0, gpu_table.COPY: 4.0}
    row = {"layer": "conv1_1", "side": 512, "flop": 8e8}  # 1 us
    row |= {"forward": 4e-6, "forward bytes": 8e6, "backward": 2e-6, "backward bytes": 2e6}
    cells = gpu_table.layers([row], ceilings)[-1]
    assert cells == "| conv1_1 | 512 | 4.0 | 25 | 50 | 2.0 | 50 | 50 |"


def worker(tmp_path, code):
    log = tmp_path / "log"
    log.touch()
    return Contender("worker", ["-c", code], log, {})


def test_a_worker_that_hangs_is_stopped_and_started_anew(tmp_path):
    code = 'import time\nprint("{}", flush=True)\ninput()\ntime.sleep(60)'
    hanging = worker(tmp_path, code)
    for _ in range(2):
        with pytest.raises(Failed, match="stopped at its time limit"):
            hanging.ask("turn", 1.0)


def test_a_worker_that_ends_tells_its_last_message(tmp_path):
    with pytest.raises(Failed, match="the worker ended: ValueError: no device"):
        worker(tmp_path, 'raise ValueError("no device")').ask("turn", 30.0)


def test_a_worker_says_why_it_cannot(tmp_path):
    code = 'print("{}", flush=True)\ninput()\nprint(\'{"failed": "no memory"}\', flush=True)'
    refusing = worker(tmp_path, code)
    with pytest.raises(Failed, match="no memory"):
        refusing.ask("prepare", 30.0)
    refusing.stop()


def test_a_whole_run_on_the_emulator(emulated_library, tmp_path, monkeypatch, capsys):
    """Beside PyTorch on the CPU where there is one; its CUDA graph fails and is a row."""
    monkeypatch.setattr(bench_gpu, "OURS", {"bf16": "depthstyle bf16"})
    monkeypatch.setenv("PYTHONPATH", str(Path(depthstyle.__file__).parents[1]), prepend=":")
    command = ["bench_gpu.py", "--emulated", str(emulated_library), "--tiny", "--rounds", "2"]
    command += ["--only", "johnson-512", "--folder", str(tmp_path), "--name", "test", "--layers"]
    monkeypatch.setattr(sys, "argv", command)
    bench_gpu.main()
    data = json.loads((tmp_path / "gpu_test.json").read_text())
    (row,) = data["parts"]
    ours, captured = (row["contenders"][name] for name in ("depthstyle bf16", "B4 captured"))
    assert len(ours["seconds"]) == 2 and min(ours["seconds"]) > 0 and ours["bytes"] > 0
    assert "CUDA" in captured["failed"] or "torch" in captured["failed"]
    text = (tmp_path / "gpu_test.md").read_text()
    assert text == gpu_table.text(data) and text in capsys.readouterr().out
