"""A proxy before an S3 server that refuses, drops, truncates or delays a share of all requests."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FAULTS = ("503", "500", "dropped", "truncated", "slow")
SLOW_S = 0.3
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class FlakyProxy:
    """The proxy.

    Attributes:
        share: of requests that meet a fault; may be changed at any time.
        met: how often each fault was met.
    """

    def __init__(self, endpoint: str, *, share: float, seed: int = 0) -> None:
        self.share, self.met = share, Counter[str]()
        self._draw, self._lock = random.Random(seed), threading.Lock()
        proxy, target = self, urlsplit(endpoint)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Nothing is printed."""

            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fault = proxy.draw()
                if fault in ("503", "500"):
                    self.answer(int(fault), {"Content-Type": "application/xml"}, SLOW_DOWN)
                    return
                if fault == "dropped":
                    self.cut()
                    return
                if fault == "slow":
                    time.sleep(SLOW_S)
                connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=30)
                connection.request(self.command, self.path, body=body or None, headers=dict(self.headers))
                answer = connection.getresponse()
                content, headers = answer.read(), dict(answer.getheaders())
                connection.close()
                self.answer(answer.status, headers, content, is_cut=fault == "truncated")

            def answer(self, status: int, headers: dict[str, str], content: bytes, *, is_cut: bool = False) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                        self.send_header(name, value)
                has_body = self.command != "HEAD"
                length = str(len(content)) if has_body else headers.get("Content-Length", "0")
                self.send_header("Content-Length", length)
                self.end_headers()
                if has_body:
                    self.wfile.write(content[: len(content) // 2] if is_cut else content)
                if is_cut:
                    self.cut()

            def cut(self) -> None:
                """End the connection in the middle of the answer."""
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def draw(self) -> str:
        """A fault, or nothing."""
        with self._lock:
            if self._draw.random() >= self.share:
                return ""
            fault = self._draw.choice(FAULTS)
            self.met[fault] += 1
            return fault

    def end(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


@contextlib.contextmanager
def flaky_s3(endpoint: str, *, share: float, seed: int = 0) -> Iterator[FlakyProxy]:
    """A proxy for the block."""
    proxy = FlakyProxy(endpoint, share=share, seed=seed)
    try:
        yield proxy
    finally:
        proxy.end()
