"""A proxy on loopback in front of a real server, which breaks connections where a test says so.

It passes bytes on as they are, Host header and signatures included, and looks for the heads of requests in them.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

_REQUEST = re.compile(rb"((?:PUT|POST|GET|HEAD|DELETE) /\S* HTTP/1\.1)\r\n")
_CHUNK = 1 << 16


@dataclass
class Cut:
    """A connection that is reset in the middle of a request.

    Args:
        request: tells by a request's first line whether it is meant.
        after: bytes of the request that are let through; None: all of it, and its answer is lost.
        times: to how many requests it happens.
    """

    request: Callable[[str], bool]
    after: int | None = 0
    times: int = 1
    done: int = 0


class Proxy:
    """Pass connections on to a server on this machine; ``requests`` keeps the first line of each request."""

    def __init__(self, url: str) -> None:
        self.upstream = int(url.rpartition(":")[2])
        self.cuts: list[Cut] = []
        self.requests: list[str] = []
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.settimeout(0.1)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Proxy:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def count(self, text: str) -> int:
        """Return how many requests had a text in their first line."""
        return sum(text in line for line in self.requests)

    def cut_for(self, line: str) -> Cut | None:
        """Note a request, and return the cut that is to happen to it."""
        with self._lock:
            self.requests.append(line)
            for cut in self.cuts:
                if cut.done < cut.times and cut.request(line):
                    cut.done += 1
                    return cut
        return None

    def _accept(self) -> None:
        while not self.stopping.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.upstream))
                thread = threading.Thread(target=_Connection(self, client, server).run, daemon=True)
                thread.start()
                self._threads.append(thread)


class _Connection:
    """One connection: the client asks, waits for the answer, and asks again; so a request begins a piece of bytes."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.server = server
        self.cut: Cut | None = None  # of the present request
        self.passed = 0  # bytes of it so far

    def run(self) -> None:
        """Pass on until one side ends; in one thread, so that nobody else holds a socket that is to be reset."""
        with self.client, self.server, contextlib.suppress(OSError):
            while not self.proxy.stopping.is_set():
                ready = select.select([self.client, self.server], [], [], 0.1)[0]
                if self.server in ready and not self._answer(self.server.recv(_CHUNK)):
                    return
                if self.client in ready and not self._ask(self.client.recv(_CHUNK)):
                    return

    def _ask(self, data: bytes) -> bool:
        line = _REQUEST.match(data)
        if line is not None:
            self.cut, self.passed = self.proxy.cut_for(line[1].decode()), 0
        let = len(data) if self.cut is None or self.cut.after is None else max(0, self.cut.after - self.passed)
        self.server.sendall(data[:let])
        self.passed += len(data)
        return bool(data) and (let >= len(data) or self._reset())

    def _answer(self, data: bytes) -> bool:
        if self.cut is not None and self.cut.after is None and not data.startswith(b"HTTP/1.1 100"):
            return self._reset()
        self.client.sendall(data)
        return bool(data)

    def _reset(self) -> bool:
        """Make closing send a reset to both sides, instead of an end."""
        time.sleep(0.05)  # what was let through arrives first
        for side in (self.client, self.server):
            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False
