"""A web server on loopback, in a process of its own, that only answers how large its objects are."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def served(sizes: dict[str, int], latency: float) -> Iterator[str]:
    """Answer HEAD for some paths on loopback, each answer after so many seconds; yields the address."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    child = os.fork()
    if not child:
        try:
            asyncio.run(answer_all(listener, sizes, latency))
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
