"""Layers from registries that are busy: on web servers that count."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from neurocommand.errors import RegistryBusyError, RegistryError
from neurocommand.image import blobs
from neurocommand.image.oci import Descriptor
from neurocommand.model import ImageReference
from neurocommand.registry import Registries
from tests.servers import Answer, Request, Respond, WebServer

Serve = Callable[[Respond], WebServer]
LAYERS = [bytes([number]) * 1000 for number in range(5)]


def fetch(server: WebServer, directory: Path) -> list[bytes]:
    layers = [Descriptor(hashlib.sha256(layer).hexdigest(), len(layer), "application/x-tar") for layer in LAYERS]
    with Registries().opened(ImageReference(server.host, "x/y", "1", insecure=True)) as source:
        files = blobs.fetch(source, layers, directory, "x/y", lambda path, where: None)
    return [file.read_bytes() for file in files]


def layer_of(request: Request) -> Answer:
    asked = request.path.rpartition("sha256:")[2]
    return Answer(body=next(layer for layer in LAYERS if hashlib.sha256(layer).hexdigest() == asked))


def test_a_moderate_wait_is_waited_for(web_server: Serve, tmp_path: Path) -> None:
    began: list[float] = []

    def respond(request: Request) -> Answer:
        began.append(time.monotonic())
        return Answer(429, headers={"Retry-After": "1"}) if began[-1] - began[0] < 0.9 else layer_of(request)

    server = web_server(respond)
    assert fetch(server, tmp_path) == LAYERS
    early = [when for when in began if when - began[0] < 0.9]
    assert len(early) <= blobs.TOGETHER


@pytest.mark.parametrize("headers", [{"Retry-After": "600"}, {}], ids=["ten minutes", "no time"])
def test_a_long_wait_is_not(headers: dict[str, str | None], web_server: Serve, tmp_path: Path) -> None:
    server = web_server(lambda request: Answer(429, headers=headers))
    began = time.monotonic()
    with pytest.raises(RegistryBusyError):
        fetch(server, tmp_path)
    assert time.monotonic() - began < 5
    assert len(server.requests) <= blobs.TOGETHER


def test_what_breaks_off_is_fetched_again(web_server: Serve, tmp_path: Path) -> None:
    broken: set[str] = set()

    def respond(request: Request) -> Answer:
        answer = layer_of(request)
        if request.path not in broken:
            answer.sent = 10
        broken.add(request.path)
        return answer

    assert fetch(web_server(respond), tmp_path) == LAYERS


def test_a_registry_that_fails_without_a_word_is_asked_again_after_a_pause(web_server: Serve, tmp_path: Path) -> None:
    server = web_server(lambda request: Answer(503))
    began = time.monotonic()
    with pytest.raises(RegistryError, match="answers 503"):
        fetch(server, tmp_path)
    assert time.monotonic() - began >= 2 * blobs.PAUSE
