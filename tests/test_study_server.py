"""The study's server: what it gives and refuses, many at once, and death between votes."""

import concurrent.futures
import http.client
import json
import re
import socket
import stat

import httpx
import pytest
from comparison import write_comparison
from study_server import serving

import depthstyle as ds
from depthstyle import cli

WEB = httpx.Client(timeout=60)


def build(folder, respondents, pairs_per_respondent=4):
    folder.mkdir(exist_ok=True)
    return ds.study.build(
        write_comparison(folder, images=2),
        folder / "study",
        respondents=respondents,
        pairs_per_respondent=pairs_per_respondent,
        progress=False,
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    study = build(tmp_path_factory.mktemp("server"), respondents=30)
    with serving(study.folder) as server:
        server.study = study
        server.fresh = iter(server.links)
        yield server


@pytest.fixture
def link(server):
    """The link of a respondent who did nothing yet."""
    return next(server.fresh)


def vote(link, position, side="left"):
    return WEB.post(f"{link}/vote", json={"position": position, "side": side})


def test_a_respondent_from_consent_to_the_end(link):
    state = WEB.get(f"{link}/state").json()
    question = "Which picture do you like more?"
    assert state == {"consented": False, "answered": 0, "total": 4, "question": question}
    assert vote(link, 1).status_code == 409
    assert WEB.post(f"{link}/consent", json={}).json()["consented"]
    for position in range(1, 5):
        assert vote(link, position).json()["answered"] == position
    assert WEB.get(f"{link}/state").json()["answered"] == 4
    assert vote(link, 5).status_code == 409


def test_double_votes(link):
    WEB.post(f"{link}/consent", json={})
    assert vote(link, 1, "left").json()["answered"] == 1
    assert vote(link, 1, "left").json()["answered"] == 1
    assert vote(link, 1, "right").status_code == 409
    assert vote(link, 3).status_code == 409


def test_links_are_private_and_complete(server):
    links = server.study.folder / "links.txt"
    assert stat.S_IMODE(links.stat().st_mode) == 0o600
    assert server.links == [f"{server.url}/s/{token}" for token in server.study.tokens()]


@pytest.mark.parametrize(
    "token", ["x", "A" * 22, "%00", "%ff", "..", "%27%20OR%201=1--", "A" * 9000]
)
def test_forged_tokens(server, token):
    for path in ("", "/state", "/picture/1/left"):
        assert WEB.get(f"{server.url}/s/{token}{path}").status_code == 404
    for path, body in (("/consent", {}), ("/vote", {"position": 1, "side": "left"})):
        assert WEB.post(f"{server.url}/s/{token}{path}", json=body).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/study.sqlite3",
        "/links.txt",
        "/../study.sqlite3",
        "/..%2fstudy.sqlite3",
        "/page/../../links.txt",
        "/page.css/../../../links.txt",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/s/{token}/picture/1/..%2f..%2flinks.txt",
        "/s/{token}/picture/1/ours",
        "/s/{token}/picture/1/baseline",
        "/s/{token}/picture/0/left",
        "/s/{token}/picture/5/left",
        "/s/{token}/picture/-1/left",
        "/s/{token}/picture/99999999999999999999999/left",
        "/s/{token}/votes",
    ],
)
def test_nothing_else_can_be_reached(server, path):
    # http.client sends the path as it is; httpx would tidy it first.
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", path.format(token=server.study.tokens()[-1]))
    response = connection.getresponse()
    assert response.status == 404
    assert b"SQLite" not in response.read()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"position": 1, "side": "left"', 400),
        (b"[1, 2]", 400),
        (b'{"position": true, "side": "left"}', 400),
        (b'{"position": 1.0, "side": "left"}', 400),
        (b'{"position": "1", "side": "left"}', 400),
        (b'{"position": NaN, "side": "left"}', 400),
        (b'{"position": 1}', 400),
        (b'{"position": 1, "side": "left", "ours": 1}', 400),
        (b'{"position": 1, "side": null}', 400),
        (b'{"position": 1, "side": "ours"}', 409),
        (b'{"position": 1, "side": "\\ud800"}', 409),
        (b'{"position": -1, "side": "left"}', 409),
        (b'{"position": 123456789012345678901234567890, "side": "left"}', 409),
        (b"\xff", 400),
        (b"", 400),
        (b"[" * 256, 400),
        (b" " * 257, 413),
        (b"x" * 1_000_000, 413),
    ],
)
def test_every_body_is_checked(link, body, status):
    WEB.post(f"{link}/consent", json={})
    headers = {"content-type": "application/json"}
    assert WEB.post(f"{link}/vote", content=body, headers=headers).status_code == status
    assert WEB.get(f"{link}/state").json()["answered"] == 0


def test_a_body_without_a_length_is_cut_off(server, link):
    """The sender never ends; the server answers all the same."""
    path = link.removeprefix(server.url)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        head = (
            f"POST {path}/vote HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            "Transfer-Encoding: chunked\r\n\r\n"
        )
        connection.sendall(head.encode() + b"200\r\n" + b" " * 0x200 + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_methods_and_types(link):
    assert WEB.get(f"{link}/vote").status_code == 405
    assert WEB.post(f"{link}/state", json={}).status_code == 405
    form = WEB.post(f"{link}/consent", data={"a": "b"})
    assert form.status_code == 415
    assert not WEB.get(f"{link}/state").json()["consented"]


def test_pictures_tell_nothing_about_the_method(link):
    answers = [WEB.get(f"{link}/picture/1/{side}") for side in ("left", "right")]
    for answer in answers:
        assert answer.headers["content-type"] == "image/jpeg"
        assert not {"last-modified", "etag", "content-disposition"} & set(answer.headers)
    assert answers[0].headers.keys() == answers[1].headers.keys()
    assert answers[0].content != answers[1].content
    page = WEB.get(link).text + WEB.get(f"{link}/state").text
    page += "".join(WEB.get(httpx.URL(link).join(path)).text for path in ("/page.js", "/page.css"))
    assert not re.search(r"\b(ours|baseline|ink|oil|scene)\b", page)


@pytest.mark.parametrize("path", ["", "/state", "/nothing", "/picture/1/left"])
def test_security_headers(link, path):
    headers = WEB.get(link + path).headers
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


def test_fifty_respondents_at_once_lose_no_vote(tmp_path):
    study = build(tmp_path, respondents=50)
    sides = ("left", "right", "right", "left")

    def respond(link):
        assert WEB.post(f"{link}/consent", json={}).status_code == 200
        for position, side in enumerate(sides, start=1):
            for name in ("content", "left", "right"):
                assert WEB.get(f"{link}/picture/{position}/{name}").status_code == 200
            assert vote(link, position, side).json()["answered"] == position

    with serving(study.folder) as server, concurrent.futures.ThreadPoolExecutor(50) as pool:
        list(pool.map(respond, server.links))
    votes = study.votes()
    assert [(v.respondent, v.position, v.side) for v in votes] == [
        (respondent, position, side)
        for respondent in range(1, 51)
        for position, side in enumerate(sides, start=1)
    ]


def test_kill_between_votes_loses_none(tmp_path):
    study = build(tmp_path, respondents=1)
    with serving(study.folder) as server:
        (link,) = server.links
        WEB.post(f"{link}/consent", json={})
        for position in range(1, 5):
            assert vote(link, position).json()["answered"] == position
            server.kill()
            assert len(study.votes()) == position
            server.start()
            assert server.links == [link]


def test_ctrl_c_stops_cleanly_and_no_address_was_written(tmp_path):
    study = build(tmp_path, respondents=1)
    with serving(study.folder) as server:
        WEB.get(server.links[0])
        code, out, error = server.stop()
    assert code == 0
    assert "all votes are saved" in out
    assert error == ""
    for path in study.folder.iterdir():
        if path.name != "links.txt":
            assert b"127.0.0.1" not in path.read_bytes()


def test_the_report_reads_while_people_vote(tmp_path, capsys):
    study = build(tmp_path, respondents=2)
    with serving(study.folder) as server:
        WEB.post(f"{server.links[0]}/consent", json={})
        vote(server.links[0], 1)
        assert cli.main(["study", "report", str(study.folder)]) == 0
        assert vote(server.links[0], 2).json()["answered"] == 2
    assert "1 of 2 invited voted, 1 of 8 votes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], "port=70000"),
        (["--host", "192.0.2.1"], "192.0.2.1"),
        (["--host", "no such host"], "no such host"),
    ],
)
def test_bad_addresses(tmp_path, capsys, options, message):
    study = build(tmp_path, respondents=1)
    assert cli.main(["study", "serve", str(study.folder), *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not (study.folder / "links.txt").exists()


def test_a_port_in_use(server, capsys):
    line = ["study", "serve", str(server.study.folder), "--port", str(server.port)]
    assert cli.main(line) == 2
    assert "choose another --port" in capsys.readouterr().err


def test_public_address_in_the_links(tmp_path, monkeypatch):
    import uvicorn

    study = build(tmp_path, respondents=2)
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    ds.study.serve(study.folder, port=0, url="https://study.example.org/")
    links = (study.folder / "links.txt").read_text().split()
    assert links == [f"https://study.example.org/s/{token}" for token in study.tokens()]


def test_votes_csv_is_not_served(server):
    assert json.loads(WEB.get(f"{server.links[0]}/state").text).keys() == {
        "consented",
        "answered",
        "total",
        "question",
    }
    assert WEB.get(f"{server.url}/votes.csv").status_code == 404
