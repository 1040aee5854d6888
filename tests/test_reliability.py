"""The campaigns of tests/reliability in short; `make reliability` runs them in full."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "reliability"

SHORT = [
    ("saves", "kills", 50),
    ("saves", "kill_at_operations", 28),
    ("saves", "kill_at_system_calls", 5),
    ("saves", "failing_disk", 65),
    ("saves", "small_disk", 9),
    ("saves", "power_cuts", 500),
    ("saves", "damage", 300),
    ("saves", "fuzz", 1000),
    ("saves", "races", 15),
    ("runs", "interrupts", 24),
    ("runs", "callbacks", 8),
    ("runs", "divergence", 21),
    ("runs", "changed_inputs", 300),
    ("runs", "one_session", 100),
    ("runs", "two_sessions", 4),
    ("runs", "forks", 20),
    ("runs", "repetitions", 15),
    ("runs", "floating_point_mode", 2),
    ("runs", "allocations", 4),
    ("runs", "no_memory", 60),
    ("runs", "growth", 2),
    ("runs", "endings", 13),
    ("resources", "limits", 16),
    ("pictures", "cuts", 8),
    ("pictures", "modes", 1),
    ("pictures", "arrays", 1500),
    ("pictures", "depths", 600),
    ("pictures", "sizes", 250),
    ("bombs", "bombs", 0),
    ("parameters", "every_parameter", 4),
]


@pytest.mark.parametrize(("script", "campaign", "count"), SHORT)
def test_campaign(script, campaign, count):
    command = [sys.executable, FOLDER / f"{script}.py", f"{campaign}={count}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    report = done.stdout.strip()
    assert report.startswith(f"{campaign}: ")
    if "not run" in report:
        pytest.skip(report)
