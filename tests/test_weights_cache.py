"""Downloads from a local server that stalls, cuts, redirects and lies; the cache; the command."""

import hashlib
import http.server
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from depthstyle import WeightsError, cli, weights
from depthstyle.weights import download, registry

DATA = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        getattr(self, f"serve_{self.path.strip('/').split('/')[0].split('.')[0]}")()

    def send(self, status, body, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def send_part(self, body, length):
        """Send fewer bytes than announced and hang up."""
        self.send(200, body, length)
        self.close_connection = True

    def serve_whole(self):
        self.send(200, DATA)

    def serve_ranges(self):
        """Cut the first answer; go on where a later one asks."""
        first = self.headers.get("Range")
        if first is None:
            self.send_part(DATA[:100_000], len(DATA))
        else:
            start = int(first.removeprefix("bytes=").removesuffix("-"))
            total = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
            self.send(206, DATA[start:], Content_Range=total)

    def serve_no_ranges(self):
        """Cut the first answer and know no ranges."""
        if len(self.server.requests) == 1:
            self.send_part(DATA[:100_000], len(DATA))
        else:
            self.send(200, DATA)

    def serve_wrong_range(self):
        if self.headers.get("Range") is None and len(self.server.requests) == 1:
            self.send_part(DATA[:100_000], len(DATA))
        elif self.headers.get("Range"):
            self.send(206, DATA[5:], Content_Range=f"bytes 5-{len(DATA) - 1}/{len(DATA)}")
        else:
            self.send(200, DATA)

    def serve_shorter(self):
        if self.headers.get("Range"):
            self.send(416, b"")
        else:
            self.send(200, DATA)

    def serve_always_cut(self):
        self.send_part(DATA[: 30_000 * len(self.server.requests)], len(DATA))

    def serve_stall(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        self.wfile.write(DATA[:1000])
        self.wfile.flush()
        self.server.released.wait(20)
        self.close_connection = True

    def serve_slow(self):
        """Take long enough for other processes to ask."""
        time.sleep(1)
        self.send(200, DATA)

    def serve_redirect(self):
        self.send(302, b"", Location="/whole.pth")

    def serve_circle(self):
        self.send(302, b"", Location="/circle.pth")

    def serve_gone(self):
        self.send(404, b"<html>not here</html>")

    def serve_forbidden(self):
        self.send(403, b"")

    def serve_broken(self):
        self.send(503, b"")

    def serve_page(self):
        self.send(200, b"\n<!DOCTYPE html><html>please log in</html>")

    def serve_pointer(self):
        self.send(200, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")

    def serve_wrong(self):
        self.send(200, DATA[:-1] + b"x")

    def serve_endless(self):
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        try:
            for _ in range(1000):
                self.wfile.write(DATA)
        except OSError:
            pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """A client that hangs up early is what some tests want."""


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Handler) as server:
        server.requests, server.released = [], threading.Event()
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DEPTHSTYLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DEPTHSTYLE_OFFLINE", raising=False)
    monkeypatch.setattr(download, "_TIMEOUT", (2.0, 0.3))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


def publish(monkeypatch, server, page, sha256=SHA256, **options):
    url = f"http://127.0.0.1:{server.server_port}/{page}.pth"
    file = registry.Published("test", None, url, len(DATA), sha256, "MIT", **options)
    monkeypatch.setitem(registry.PUBLISHED, "test", file)
    return file


@pytest.mark.parametrize(
    ("page", "requests"),
    [
        ("whole", 1),
        ("redirect", 2),
        ("ranges", 2),
        ("no_ranges", 2),
        ("wrong_range", 3),
    ],
)
def test_what_arrives_in_the_end(monkeypatch, server, folder, page, requests):
    file = publish(monkeypatch, server, page)
    path = weights.get("test", progress=False)
    assert path == folder / file.filename
    assert path.read_bytes() == DATA
    assert [entry.name for entry in folder.iterdir()] == [file.filename]
    assert len(server.requests) == requests
    if page == "ranges":
        assert 0 < 100_000 - int(server.requests[1][1][len("bytes=") : -1]) <= download._CHUNK
    weights.get("test", progress=False)
    assert len(server.requests) == requests


FETCH = """
import sys
from depthstyle import weights
from depthstyle.weights import registry
url, size, sha256 = sys.argv[1:]
file = registry.Published("test", None, url, int(size), sha256, "MIT")
registry.PUBLISHED["test"] = file
print(weights.get("test", progress=False))
"""


@pytest.mark.parametrize("page", ["slow", "ranges"])
def test_processes_that_want_the_same_file_download_it_once(monkeypatch, server, folder, page):
    file = publish(monkeypatch, server, page)
    root = str(Path(weights.__file__).parents[2])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", FETCH, file.url, str(len(DATA)), SHA256]
    processes = [
        subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert out.decode().strip() == str(folder / file.filename)
    assert (folder / file.filename).read_bytes() == DATA
    assert [entry.name for entry in folder.iterdir()] == [file.filename]
    assert len(server.requests) == (1 if page == "slow" else 2)


def test_a_prefix_of_the_checksum_is_enough(monkeypatch, server):
    publish(monkeypatch, server, "whole", SHA256[:8])
    assert weights.get("test", progress=False).read_bytes() == DATA


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("gone", "link is dead .HTTP 404.; get the file elsewhere"),
        ("forbidden", "server refuses .HTTP 403."),
        ("broken", "connection failed 4 times .HTTP 503. after 0 bytes; check it, or get"),
        ("circle", "leads in a circle"),
        ("page", "a web page came in place of the file; open the link in a browser"),
        ("pointer", "a Git LFS pointer came"),
        ("wrong", f"SHA-256 [0-9a-f]{{64}}, published is {SHA256}"),
        ("endless", "sends more than 600000 bytes, so not the published file; get it"),
        ("always_cut", r"connection failed 4 times .* [1-9]\d* bytes; run the command again"),
        ("stall", "connection failed 4 times"),
    ],
)
def test_what_goes_wrong_is_said(monkeypatch, server, folder, page, words):
    file = publish(monkeypatch, server, page)
    with pytest.raises(WeightsError, match=words) as info:
        weights.get("test", progress=False)
    assert file.url in str(info.value)
    assert not (folder / file.filename).exists()
    left = {entry.name for entry in folder.iterdir()}
    assert left <= {f"{file.filename}.part"}


def test_a_cut_download_goes_on_the_next_time(monkeypatch, server, folder):
    file = publish(monkeypatch, server, "ranges")
    folder.mkdir()
    (folder / f"{file.filename}.part").write_bytes(DATA[:250_000])
    assert weights.get("test", progress=False).read_bytes() == DATA
    assert server.requests == [("/ranges.pth", "bytes=250000-")]


def test_a_part_longer_than_the_file_is_thrown_away(monkeypatch, server, folder):
    file = publish(monkeypatch, server, "shorter")
    folder.mkdir()
    (folder / f"{file.filename}.part").write_bytes(DATA + b"more")
    assert weights.get("test", progress=False).read_bytes() == DATA


def test_no_server(monkeypatch, server):
    file = publish(monkeypatch, server, "whole")
    gone = registry.Published("test", None, "http://127.0.0.1:1/a.pth", 9, "", file.licence)
    monkeypatch.setitem(registry.PUBLISHED, "test", gone)
    with pytest.raises(WeightsError, match=r"connection failed 4 times \(ConnectionError\)"):
        weights.get("test", progress=False)


def test_offline_uses_the_cache_only(monkeypatch, server):
    publish(monkeypatch, server, "whole")
    with pytest.raises(WeightsError, match=r"test: not in the cache .* offline; go online, or"):
        weights.get("test", offline=True)
    monkeypatch.setenv("DEPTHSTYLE_OFFLINE", "1")
    with pytest.raises(WeightsError, match="offline"):
        weights.get("test")
    path = weights.get("test", offline=False, progress=False)
    assert weights.get("test") == path
    assert len(server.requests) == 1


def test_a_licence_is_confirmed_before_anything_is_fetched(monkeypatch, server):
    publish(monkeypatch, server, "whole", non_commercial=True)
    with pytest.raises(WeightsError, match="MIT; if that suits you, confirm it"):
        weights.get("test", progress=False)
    assert not server.requests
    assert weights.get("test", accept_non_commercial=True, progress=False).exists()


def test_a_cache_that_cannot_be_made(monkeypatch, server, tmp_path):
    publish(monkeypatch, server, "whole")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEPTHSTYLE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match=r"the cache cannot be made .* set DEPTHSTYLE_CACHE"):
        weights.get("test", progress=False)


GOLDEN = Path(__file__).parent / "golden" / "weights" / "state.zip.pth"


def test_import_recognises_a_file_by_its_checksum(monkeypatch, server, folder):
    digest = hashlib.sha256(GOLDEN.read_bytes()).hexdigest()
    file = publish(monkeypatch, server, "whole", digest[:8])
    assert weights.add(GOLDEN) == folder / file.filename
    assert weights.find("test").read_bytes() == GOLDEN.read_bytes()
    assert [entry.name for entry in folder.iterdir()] == [file.filename]


def test_import_refuses_other_files(monkeypatch, server, folder, tmp_path):
    publish(monkeypatch, server, "whole")
    with pytest.raises(WeightsError, match=r"no published file has its SHA-256 .* --name"):
        weights.add(GOLDEN)
    with pytest.raises(WeightsError, match="but test is published with"):
        weights.add(GOLDEN, "test")
    with pytest.raises(WeightsError, match="weights 'nothing': unknown; choose from vgg19"):
        weights.add(GOLDEN, "nothing")
    (tmp_path / "page.pth").write_text("<html>")
    with pytest.raises(WeightsError, match="a web page"):
        weights.add(tmp_path / "page.pth")
    assert not folder.exists()


def test_registry_is_complete():
    names = [file.filename for file in registry.PUBLISHED.values()]
    assert len(set(names)) == len(names)
    for name, file in registry.PUBLISHED.items():
        assert name == file.name
        assert file.url.startswith(("https://", "http://cs.stanford.edu/", "http://www.cs.cornell"))
        assert file.size is None or file.size > 0
        assert file.licence
        assert set(file.sha256) <= set("0123456789abcdef")
        assert ("commercial" in file.licence) == file.non_commercial


def run(capsys, *words):
    code = cli.main(["weights", *words])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert len(captured.err.splitlines()) == (code == 2)
    return code, captured.out + captured.err


def test_command(monkeypatch, server, capsys):
    digest = hashlib.sha256(GOLDEN.read_bytes()).hexdigest()
    publish(monkeypatch, server, "gone", digest)
    code, text = run(capsys, "list")
    assert code == 0
    assert "vgg19 " in text
    assert "dcbb9e9d" in text
    assert "in cache" not in text
    code, text = run(capsys, "get", "test")
    assert code == 2
    assert "link is dead" in text
    code, text = run(capsys, "get", "test", "--offline")
    assert code == 2
    assert "import FILE" in text
    code, text = run(capsys, "import", str(GOLDEN))
    assert code == 0
    code, text = run(capsys, "get", "test")
    assert code == 0
    assert digest in text
    code, text = run(capsys, "list")
    assert "in cache" in text
    for name in ("test", str(GOLDEN)):
        code, text = run(capsys, "show", name)
        assert code == 0
        assert "PyTorch zip, 9 tensors" in text
        assert "0.weight               float32   4x3x3x3" in text
    code, text = run(capsys, "show", "absent.pth")
    assert code == 2
    assert "no such file" in text
    code, text = run(capsys, "get", "johnson-instance-candy")
    assert code == 2
    assert "--accept-non-commercial" in text
