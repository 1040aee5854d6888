"""The study's web page.

A respondent's personal link is ``/s/TOKEN``; everything that belongs to the respondent lies below
it. The page is told how far the respondent is, never which method made a picture: pictures are
named by position and side, and carry no date, size on disk or tag that could give it away.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from depthstyle.files import write_atomically

from .database import NotFound, Refused, State, Study

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGE = Path(__file__).parent / "page"
MAX_BODY = 256
"""Bytes of a request; a vote needs about 40."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' blob: data:; style-src 'self'; "
    "script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
    "Cache-Control": "no-store",
}
MISSING = "This link does not work. Please check that you copied all of it."


def create_app(study: Study) -> Starlette:
    """Make the web application of a study.

    Parameters
    ----------
    study : Study

    Returns
    -------
    starlette.applications.Starlette
    """
    html = (PAGE / "page.html").read_text(encoding="utf-8")
    question = study.setting("question")

    def page(request: Request) -> Response:
        study.state(request.path_params["token"])
        return HTMLResponse(html)

    def state(request: Request) -> Response:
        return _answer(study.state(request.path_params["token"]), question=question)

    def picture(request: Request) -> Response:
        params = request.path_params
        jpeg = study.picture(params["token"], params["position"], params["name"])
        return Response(jpeg, media_type="image/jpeg")

    async def consent(request: Request) -> Response:
        await _body(request, {})
        token = request.path_params["token"]
        return _answer(await run_in_threadpool(study.consent, token))

    async def vote(request: Request) -> Response:
        body = await _body(request, {"position": int, "side": str})
        token = request.path_params["token"]
        return _answer(await run_in_threadpool(study.vote, token, body["position"], body["side"]))

    # Each handler takes its own kind of exception, which Starlette's types cannot say.
    handlers: dict[Any, Any] = {
        NotFound: _missing,
        HTTPException: _http_error,
        Refused: _refused,
    }
    return Starlette(
        routes=[
            Route("/s/{token}", page),
            Route("/s/{token}/state", state),
            Route("/s/{token}/picture/{position:int}/{name}", picture),
            Route("/s/{token}/consent", consent, methods=["POST"]),
            Route("/s/{token}/vote", vote, methods=["POST"]),
            Route("/page.css", _file("page.css", "text/css")),
            Route("/page.js", _file("page.js", "text/javascript")),
        ],
        middleware=[Middleware(_Headers)],
        exception_handlers=handlers,
    )


def serve(
    folder: str | Path, *, host: str = "127.0.0.1", port: int = 8000, url: str | None = None
) -> None:
    """Serve a study until Ctrl-C.

    Writes ``links.txt`` with one personal link per respondent into the folder.

    Parameters
    ----------
    folder : str or Path
        The study's folder.
    host : str
        Address to listen on. The default is reachable from this computer only.
    port : int
        Port, 0 to 65535; 0 takes a free one.
    url : str, optional
        Where respondents reach the server, for the links, such as ``https://study.example.org``.

    Raises
    ------
    ValueError
        If the folder holds no study or the address cannot be used.
    """
    import uvicorn

    study = Study(folder)
    with _listen(host, port) as listener:
        port = listener.getsockname()[1]
        name = f"[{host}]" if ":" in host else host
        base = (url or f"http://{name}:{port}").rstrip("/")
        links = study.folder / "links.txt"
        write_atomically(links, "".join(f"{base}/s/{t}\n" for t in study.tokens()).encode())
        links.chmod(0o600)
        print(f"serving {study.folder} at http://{name}:{port}, stop with Ctrl-C")
        print(f"personal links, one per respondent: {links}", flush=True)
        # No access log: it would hold the respondents' addresses.
        config = uvicorn.Config(
            create_app(study), access_log=False, log_level="warning", server_header=False
        )
        uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise ValueError(f"port={port}: must be from 0 to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"host={host}, port={port}: {reason}; choose another --port") from None


async def _body(request: Request, fields: dict[str, type]) -> dict[str, Any]:
    """Read a small JSON object with exactly the given fields.

    The length that the request states is not trusted; reading stops at the limit.
    """
    if request.headers.get("content-type") != "application/json":
        raise HTTPException(415, "send application/json")
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise HTTPException(413, f"more than {MAX_BODY} bytes")
    try:
        body = json.loads(data)
    except ValueError:
        raise HTTPException(400, "not JSON") from None
    # type() instead of isinstance(): true is an int, and would pass as position 1.
    if type(body) is not dict or {name: type(value) for name, value in body.items()} != fields:
        raise HTTPException(400, f"send the fields {', '.join(fields) or '(none)'}")
    return body


def _answer(state: State, **further: str) -> Response:
    return JSONResponse(
        {
            "consented": state.consented,
            "answered": state.answered,
            "total": state.total,
            **further,
        }
    )


def _file(name: str, media_type: str) -> Callable[[Request], Response]:
    text = (PAGE / name).read_text(encoding="utf-8")
    return lambda request: Response(text, media_type=media_type)


def _missing(request: Request, error: Exception) -> Response:
    return Response(MISSING, status_code=404, media_type="text/plain")


def _http_error(request: Request, error: HTTPException) -> Response:
    if error.status_code == 404:
        return _missing(request, error)
    return Response(error.detail, error.status_code, error.headers, "text/plain")


def _refused(request: Request, error: Refused) -> Response:
    return Response(str(error), status_code=409, media_type="text/plain")


class _Headers:
    """Adds the security headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        await self.app(scope, receive, send_with_headers)
