"""All servers of a repository, asked at once: what each shows, and whether it has what its catalogs name."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurocommand import threads
from neurocommand.cvmfs import signature
from neurocommand.cvmfs.catalogfile import Located
from neurocommand.cvmfs.published import Client, Published
from neurocommand.errors import CvmfsDownError, CvmfsError, CvmfsUntrustedError
from neurocommand.freshness import Answer, Silence

AT_ONCE = 16
_CONNECT = 10.0


@dataclass(frozen=True)
class Missing:
    """A file that clients of a server do not see, and why; ``server`` is empty where no server could show it."""

    path: str
    server: str
    reason: str


class Probe:
    """The servers of one repository.

    Args:
        name: of the repository.
        urls: its addresses, the stratum 0's first.
        public_key: the file of its master public key.
        seconds: that one server may take for each of the two questions.
    """

    def __init__(self, name: str, urls: Sequence[str], public_key: Path, seconds: float) -> None:
        self.urls = tuple(urls)
        self.seconds = seconds
        self.public_key = public_key
        self._clients = [
            Client(url, public_key, name=name, connect=min(_CONNECT, seconds), read=seconds, seconds=seconds)
            for url in urls
        ]
        self._published: dict[str, Published] = {}

    def ask(self) -> list[Answer | Silence]:
        """Ask every server for its revision, and return the answers in the order of the servers.

        Raises:
            ProcessError: there is no openssl.
            CvmfsError: the public key cannot be read.
        """
        signature.check_key(self.public_key)
        return threads.each(self._asked, self._clients, AT_ONCE)

    def missing(self, urls: Iterable[str], paths: Sequence[str]) -> list[Missing]:
        """Look for files on servers that show the same content, and return what clients would not see.

        The catalogs are read from one server, the first that gives them; the others are asked whether they have the
        same objects, which is all that a client of theirs needs.

        Args:
            urls: of the servers; all have answered ``ask`` with the same root catalog.
            paths: of the files, from the repository's root.
        """
        clients = [client for client in self._clients if client.objects.url in set(urls)]
        located, found = self._located(clients, paths)

        def lacking(client: Client) -> list[Missing]:
            url = client.objects.shown
            try:
                return threads.within(self.seconds, lambda: _lacking(client, located))
            except (CvmfsError, TimeoutError) as error:
                return [Missing("", url, str(error))]

        for lacks in threads.each(lacking, clients, AT_ONCE):
            found += lacks
        return found

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            client.close()

    def _asked(self, client: Client) -> Answer | Silence:
        url = client.objects.url
        try:
            found = threads.within(self.seconds, lambda: client.manifest(expired=True))
        except TimeoutError as error:
            return Silence("down", str(error), "is the server overloaded? Ask again with a longer --timeout")
        except CvmfsDownError as error:
            return Silence("down", error.message, error.hint)
        except CvmfsUntrustedError as error:
            return Silence("bad signature", error.message, error.hint)
        except CvmfsError as error:
            return Silence("incomplete", error.message, error.hint)
        self._published[url] = found
        return Answer(
            revision=found.revision,
            root=found.root_catalog,
            signed=found.timestamp,
            expires=found.whitelist_expires,
            milliseconds=round(client.seconds * 1000),
        )

    def _located(self, clients: Sequence[Client], paths: Sequence[str]) -> tuple[dict[str, Located], list[Missing]]:
        """Find the objects of each file through the catalogs of the first server that has them."""
        located: dict[str, Located] = {}
        missing: dict[str, Missing] = {}
        waiting = list(paths)
        for client in clients:
            catalogs = client.at(self._published[client.objects.url])
            end = time.monotonic() + self.seconds
            for path in list(waiting):
                try:
                    _in_time(end)
                    found = catalogs.locate(path)
                except (CvmfsError, TimeoutError) as error:
                    missing[path] = Missing(path, client.objects.shown, str(error))
                    continue
                waiting.remove(path)
                missing.pop(path, None)
                if found is None:
                    missing[path] = Missing(path, "", "is not in the repository's catalogs")
                else:
                    located[path] = found
            catalogs.close()
        return located, list(missing.values())


def _in_time(end: float) -> None:
    """See that the monotonic clock shows an earlier moment.

    Raises:
        TimeoutError: it does not.
    """
    if time.monotonic() > end:
        raise TimeoutError("was not looked for: there was no time left, ask again with a longer --timeout")


def _lacking(client: Client, located: dict[str, Located]) -> list[Missing]:
    """Ask a server for the objects of files; each object once."""
    has: dict[object, bool] = {}
    found = []
    for path, where in located.items():
        for name in (*where.catalogs, *(part for part, _ in where.parts)):
            if name not in has:
                has[name] = client.objects.has(name)
            if not has[name]:
                found.append(Missing(path, client.objects.shown, f"lacks the object {name.path}"))
                break
    return found
