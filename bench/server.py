"""Web servers on loopback, in processes of their own: one only says how large its objects are, one is slow."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

AT_ONCE = 1 << 16  # bytes
LATE = 0.05  # seconds that a slow server makes good, when it woke up later than it wanted to


@contextlib.contextmanager
def served(sizes: dict[str, int], latency: float) -> Iterator[str]:
    """Answer HEAD for some paths on loopback, each answer after so many seconds; yields the address."""
    with apart(lambda listener: answer_all(listener, sizes, latency)) as address:
        yield address


@contextlib.contextmanager
def limited(path: Path, rate: float) -> Iterator[str]:
    """Send a file on loopback, whatever is asked for, to all connections together so many bytes per second."""
    with apart(lambda listener: send_slowly(listener, path, rate)) as address:
        yield address


@contextlib.contextmanager
def apart(serve: Callable[[socket.socket], Coroutine[Any, Any, None]]) -> Iterator[str]:
    """Serve in a process of its own as long as a ``with`` block runs; yields the address."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    child = os.fork()
    if not child:
        try:
            asyncio.run(serve(listener))
        finally:
            os._exit(1)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        listener.close()


async def answer_all(listener: socket.socket, sizes: dict[str, int], latency: float) -> None:
    """Serve for ever."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while request := await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(latency)
                size = sizes.get(request.split(b" ", 2)[1].decode())
                status = "404 Not Found" if size is None else "200 OK"
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {size or 0}\r\n\r\n".encode())

    server = await asyncio.start_server(answer, sock=listener)
    await server.serve_forever()


async def send_slowly(listener: socket.socket, path: Path, rate: float) -> None:
    """Serve for ever."""
    content = memoryview(path.read_bytes())
    due = time.monotonic()

    async def send(writer: asyncio.StreamWriter, body: memoryview) -> None:
        nonlocal due
        for start in range(0, len(body), AT_ONCE):
            # each piece takes its time on the one line that all connections share
            due = max(due, time.monotonic() - LATE) + len(body[start : start + AT_ONCE]) / rate
            await asyncio.sleep(due - time.monotonic())
            writer.write(body[start : start + AT_ONCE])
            await writer.drain()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while request := (await reader.readuntil(b"\r\n\r\n")).decode():
                asked = re.search(r"\r\nRange: bytes=(\d+)-(\d*)", request, re.IGNORECASE)
                first, last = int(asked[1]) if asked else 0, len(content) - 1
                last = min(last, int(asked[2])) if asked and asked[2] else last
                span = f"Content-Range: bytes {first}-{last}/{len(content)}\r\n" if asked else ""
                status = "206 Partial Content" if asked else "200 OK"
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {last + 1 - first}\r\n{span}\r\n".encode())
                if request.startswith("GET "):
                    await send(writer, content[first : last + 1])

    server = await asyncio.start_server(answer, sock=listener, limit=AT_ONCE)
    await server.serve_forever()
