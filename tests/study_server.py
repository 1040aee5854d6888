"""A study served by a process of its own, as on a researcher's computer."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class Server:
    """``depthstyle study serve`` on a free port; a restart takes the same port again."""

    def __init__(self, folder):
        self.folder = folder
        self.port = 0
        self.start()

    def start(self):
        command = [sys.executable, "-m", "depthstyle", "study", "serve", str(self.folder)]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        first = self.process.stdout.readline()
        if not first:
            raise RuntimeError(self.process.stderr.read())
        self.url = re.search(r"http://127\.0\.0\.1:\d+", first)[0]
        self.port = int(self.url.rsplit(":", 1)[1])
        self.process.stdout.readline()
        self.links = (self.folder / "links.txt").read_text().split()

    def kill(self):
        """Kill -9: nothing is cleaned up."""
        self._end(signal.SIGKILL)

    def stop(self):
        """Ctrl-C; gives exit code, standard output and standard error."""
        return self._end(signal.SIGINT)

    def _end(self, number):
        self.process.send_signal(number)
        out, error = self.process.communicate(timeout=20)
        return self.process.returncode, out, error


@contextlib.contextmanager
def serving(folder):
    server = Server(folder)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()
