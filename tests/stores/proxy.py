"""An HTTP proxy before an object store, which loses answers and refuses requests when told to."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOOPBACK = "127.0.0.1"


@dataclass
class Trouble:
    """What happens to the next `times` requests that are `meant(method, path)`.

    With a `status` the store never sees them; without one it does them, and its answer is lost.
    """

    meant: Callable[[str, str], bool]
    times: int = 1
    status: int | None = None


@dataclass
class Proxy:
    """Between clients and the store at `port`."""

    endpoint: str
    troubles: list[Trouble] = field(default_factory=list[Trouble])
    #: Methods and paths that have passed, lost answers too.
    passed: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    lock: threading.Lock = field(default_factory=threading.Lock)

    def trouble_for(self, method: str, path: str) -> Trouble | None:
        with self.lock:
            for trouble in self.troubles:
                if trouble.times and trouble.meant(method, path):
                    trouble.times -= 1
                    return trouble
        return None


@contextmanager
def proxied(port: int) -> Generator[Proxy]:
    """A proxy on a port of its own, for as long as the block lasts."""
    server = ThreadingHTTPServer((LOOPBACK, 0), _Handler)
    server.daemon_threads = True
    proxy = Proxy(f"http://{LOOPBACK}:{server.server_address[1]}")
    server.proxy, server.store_port = proxy, port  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _carry(self) -> None:
        proxy: Proxy = self.server.proxy  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        trouble = proxy.trouble_for(self.command, self.path)
        if trouble is not None and trouble.status is not None:
            self._answer(trouble.status, {}, b"")
            return
        port: int = self.server.store_port  # type: ignore[attr-defined]
        connection = http.client.HTTPConnection(LOOPBACK, port)
        try:
            # Host too, as the client has signed it.
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            data, headers = answer.read(), dict(answer.headers)
        finally:
            connection.close()
        with proxy.lock:
            proxy.passed.append((self.command, self.path))
        if trouble is not None:
            self.close_connection = True
            return
        self._answer(answer.status, headers, data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _carry  # noqa: N815

    def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        length = headers.get("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            with suppress(OSError):  # a client has what it wants before the end
                self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing is said on stderr."""
