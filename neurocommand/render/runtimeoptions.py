"""What ``apptainer_args`` of a manifest may ask of the runtime: an allow-list, since others write manifests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_GPU = frozenset(("--nv", "--rocm"))
# Each changes what the container sees of the host, or who the user is in it, and nothing for the host.
_FLAGS = frozenset(
    (
        *("--cleanenv", "-e", "--contain", "-c", "--containall", "-C", "--fakeroot", "-f", "--ipc", "-i"),
        *("--no-home", "--no-umask", "--pid", "-p", "--writable-tmpfs"),
    )
)
_PATH = r"/[A-Za-z0-9_./-]*"
_BIND = rf"{_PATH}(:{_PATH}(:r[ow])?)?"
_VALUES = {
    "--bind": re.compile(rf"{_BIND}(,{_BIND})*"),
    "--env": re.compile(r"[A-Z][A-Z0-9_]*=[A-Za-z0-9_./:=-]*"),
    "--no-mount": re.compile(r"(home|tmp|cwd|hostfs|bind-paths)(,(home|tmp|cwd|hostfs|bind-paths))*"),
    "--scratch": re.compile(_PATH),
}
# Calls with these, too, see one and the same container; all others start it with something of their own.
_SHAREABLE = frozenset(("--cleanenv", "-e", "--bind"))


@dataclass(frozen=True)
class Options:
    """What wrappers give to the runtime.

    Args:
        words: options, each one word.
        gpu: the image wants a graphics processor where there is one.
        shareable: calls may share a container that keeps running.
        refused: what the manifest asks for, but may not.
    """

    words: tuple[str, ...] = ()
    gpu: bool = False
    shareable: bool = True
    refused: tuple[str, ...] = ()


def allowed(arguments: Iterable[str]) -> Options:
    """Sort out what a manifest asks of the runtime.

    >>> allowed(["--nv", "--bind=/tmp:/scratch", "--security=uid:0"])
    Options(words=('--bind=/tmp:/scratch',), gpu=True, shareable=True, refused=('--security=uid:0',))
    """
    words, refused, gpu = [], [], False
    for argument in arguments:
        if argument in _GPU:
            gpu = True
        elif _is_allowed(argument):
            words.append(argument)
        else:
            refused.append(argument)
    shareable = all(word.partition("=")[0] in _SHAREABLE for word in words)
    return Options(tuple(words), gpu, shareable, tuple(refused))


def _is_allowed(argument: str) -> bool:
    name, equals, value = argument.partition("=")
    if not equals:
        return name in _FLAGS
    return name in _VALUES and _VALUES[name].fullmatch(value) is not None and ".." not in re.split("[/:,]", value)
