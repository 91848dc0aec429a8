"""The one door to aria2: a daemon of our own on loopback, and one object at a time that it fetches from many addresses.

It reads no configuration of the user's and no environment; what it needs to be told goes through a file that only we
can read, or through its own protocol, so that a list of processes shows neither its secret nor an address.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from neurocommand import web
from neurocommand.aria2log import Fault, Log, plain
from neurocommand.errors import ProcessError
from neurocommand.process import Background, find_program

PROGRAM = "aria2c"
PER_SERVER = 16  # connections; more are not to be had from aria2

OPTIONS = {
    "enable-rpc": "true",
    "rpc-listen-all": "false",
    "no-netrc": "true",
    "quiet": "true",
    "log": "-",
    "log-level": "notice",
    # the addresses were asked for just before: the system's own resolver knows them, and knows more than aria2's
    "async-dns": "false",
    "file-allocation": "none",
    # what it calls complete is in the file, and mostly in order: it is read there while the rest arrives
    "disk-cache": "0",
    "stream-piece-selector": "inorder",
    # else it asks for all that is left, and breaks the connection off at the end of a piece: what was under way is lost
    "enable-http-pipelining": "true",
    # a killed run knows what it had a second before
    "auto-save-interval": "1",
    "max-tries": "2",
    "retry-wait": "0",
    "connect-timeout": "10",
    "timeout": "20",
    "allow-overwrite": "true",
    "auto-file-renaming": "false",
    "continue": "true",
    "follow-torrent": "false",
    "follow-metalink": "false",
}
# aria2 itself reads these, unlike requests with their names in capitals too: each job is told its proxies instead
_UNSET = {f"{scheme}_proxy": "" for scheme in ("http", "https", "ftp", "all", "no")}
_NOWHERE = "http://127.0.0.1:9"  # where nobody listens (RFC 863)
_FASTEST = (1 << 31) - 1  # bytes per second; aria2 keeps a limit in 32 bits
_BEGINNING = 10.0  # seconds within which the daemon must listen, and end a job
_UNDER_WAY = ("active", "waiting", "paused")
# aria2's exit codes that are about the local file; see EXIT STATUS of its manual
_LOCAL = {"9": errno.ENOSPC, "13": errno.EEXIST, "15": errno.EIO, "16": errno.EIO, "17": errno.EIO, "18": errno.EIO}


def is_there() -> bool:
    """Tell whether aria2 can be used on this machine."""
    return find_program(PROGRAM) is not None


@dataclass(frozen=True)
class State:
    """How a job stands: bytes done so far, what each address in use gives at the moment in bytes per second.

    ``beginning``: so many bytes from the first one on are there.
    """

    status: Literal["active", "complete", "failed"]
    done: int
    speeds: dict[str, int]
    reason: str = ""
    beginning: int = 0


class Daemon:
    """Run aria2 as long as a ``with`` block runs.

    Args:
        authorities: the file of trusted certificates.
        holding: an open file whose lock is to last as long as the daemon, which may outlive us by a moment.

    Raises:
        ProcessError: on entering, when it cannot be started.
    """

    def __init__(self, authorities: str, holding: int) -> None:
        self._holding = holding
        self._secret = secrets.token_urlsafe(32)
        self._options = {**OPTIONS, "rpc-secret": self._secret, "ca-certificate": authorities}
        self._options["stop-with-process"] = str(os.getpid())

    def __enter__(self) -> Daemon:
        # aria2 takes no port 0: we look for a free one, and for another where somebody was faster
        for _ in range(5):
            if self._started(_free_port()):
                return self
        raise ProcessError(f"{PROGRAM}: finds no port to listen on")

    def __exit__(self, *error: object) -> None:
        # every job has ended and has put its files in order; aria2 would take a second to notice that it is to leave
        self._program.kill()
        self._program.__exit__(*error)

    def _started(self, port: int) -> bool:
        with tempfile.TemporaryDirectory(prefix="neurocommand-aria2-") as directory:
            path = Path(directory, "aria2.conf")
            options = {**self._options, "rpc-listen-port": str(port)}
            path.write_text("".join(f"{name}={value}\n" for name, value in options.items()), encoding="utf-8")
            self._program = Background([PROGRAM, f"--conf-path={path}"], _UNSET, holding=[self._holding])
            self._program.__enter__()
            try:
                if self._listens():
                    self._client = _client(port, self._secret)
                    return True
            except BaseException:
                self._program.__exit__()
                raise
        self._program.__exit__()
        return False

    def _listens(self) -> bool:
        """Wait until this daemon, and not another one at its port, says that it listens; False when it cannot."""
        deadline, said = time.monotonic() + _BEGINNING, ""
        while (left := deadline - time.monotonic()) > 0 and (line := self._program.line(left)) is not None:
            if "RPC: listening on TCP port" in line:
                return True
            if "Failed to bind" in line:
                return False
            said = line
        raise ProcessError(f"{PROGRAM}: does not start: {said or 'it says nothing'}")

    def job(self, urls: Sequence[str], path: Path, connections: int, piece: int = 1 << 20) -> Job:
        """Begin to fetch one object from all of some addresses at once; the first ones are used first.

        A file that is there is continued when aria2's own record of it (``<path>.aria2``) is there as well, else it is
        taken for the object's beginning.

        Args:
            urls: the addresses.
            path: the file to write.
            connections: how many at once.
            piece: bytes that are asked for at once, a power of two.

        Raises:
            ProcessError: the daemon did not take it.
        """
        options = {
            "dir": str(path.parent),
            "out": path.name,
            "split": str(connections),
            "piece-length": str(piece),
            "min-split-size": str(piece),
            "max-connection-per-server": str(min(connections, PER_SERVER)),
            **_proxies(urls),
        }
        return Job(self, self.call("aria2.addUri", list(urls), options))

    def limit(self, rate: int) -> None:
        """Let all of its jobs together fetch so many bytes per second, from now on.

        Raises:
            ProcessError: the daemon is gone.
        """
        self.call("aria2.changeGlobalOption", {"max-overall-download-limit": str(min(rate, _FASTEST))})

    def call(self, method: str, *parameters: Any) -> Any:
        """Call one method of aria2's protocol.

        Raises:
            ProcessError: the daemon is gone, or refuses.
        """
        import aria2p
        import requests

        try:
            return self._client.call(method, list(parameters))
        except (aria2p.ClientException, requests.RequestException, ValueError) as error:
            raise ProcessError(f"{PROGRAM}: {method}: {web.reason(error)}") from error

    def line(self, seconds: float) -> str | None:
        """Return the next line that it said; None when none comes in that time."""
        return self._program.line(seconds)


class Job:
    """One object under way."""

    def __init__(self, daemon: Daemon, gid: str) -> None:
        self._daemon = daemon
        self._gid = gid
        self._over = False
        self._log = Log(gid)

    def state(self) -> State:
        """Ask how it stands.

        Raises:
            OSError: the local file cannot be written.
            ProcessError: the daemon is gone.
        """
        asked = ["status", "completedLength", "errorCode", "errorMessage", "bitfield", "pieceLength"]
        found = self._daemon.call("aria2.tellStatus", self._gid, asked)
        status, done = found["status"], int(found["completedLength"])
        self._over = status not in _UNDER_WAY
        if status == "complete":
            return State("complete", done, {})
        if status in _UNDER_WAY:
            beginning = _beginning(found.get("bitfield", ""), int(found.get("pieceLength", 0)))
            return State("active", done, self._speeds(), beginning=min(beginning, done))
        code, reason = found.get("errorCode", ""), found.get("errorMessage", "") or "no address is left"
        if code in _LOCAL:
            causes = [fault.reason for fault in self.faults()]
            full = os.strerror(_LOCAL[code]) if code == "9" else ""
            raise OSError(_LOCAL[code], full or (causes or [plain(reason)])[-1])
        return State("failed", done, {}, plain(reason))

    def _speeds(self) -> dict[str, int]:
        speeds: dict[str, int] = {}
        try:
            files = self._daemon.call("aria2.getServers", self._gid)
        except ProcessError:  # it ended meanwhile, or has not begun
            return speeds
        for server in (server for file in files for server in file["servers"]):
            speeds[server["uri"]] = speeds.get(server["uri"], 0) + int(server["downloadSpeed"])
        return speeds

    def faults(self) -> list[Fault]:
        """Return the addresses that failed since it was asked last; an address that was tried often is named often.

        Once ``state`` has said that the job is over, all of them are known.
        """
        while not self._log.ended and (line := self._daemon.line(_BEGINNING if self._over else 0.0)) is not None:
            self._log.take(line)
        return self._log.faults()

    @property
    def unreadable(self) -> bool:
        """Whether its record of what is there is of no use, which is no address's fault."""
        return self._log.unreadable

    @property
    def redirected(self) -> set[str]:
        """The addresses that were redirected to; one of its own that gives nothing redirects in a loop."""
        return self._log.redirected

    def change(self, gone: Sequence[str], new: Sequence[str] = ()) -> None:
        """Use some addresses no more, and others from now on; a job that has ended stays as it is."""
        try:
            self._daemon.call("aria2.changeUri", self._gid, 1, list(gone), list(new))
        except ProcessError:
            return

    def stop(self) -> None:
        """End it, and wait until it has; what it got stays, and can be continued."""
        deadline = time.monotonic() + _BEGINNING
        try:
            self._daemon.call("aria2.forceRemove", self._gid)
            while self._daemon.call("aria2.tellStatus", self._gid, ["status"])["status"] in _UNDER_WAY:
                if time.monotonic() > deadline:
                    raise ProcessError(f"{PROGRAM}: does not end a download")
                time.sleep(0.02)
        except ProcessError:
            return


def _beginning(bitfield: str, piece: int) -> int:
    """Return how many bytes are there before the first piece that is not.

    >>> _beginning("ff80", 10), _beginning("7f", 10), _beginning("", 10)
    (90, 0, 0)
    """
    bits = f"{int(bitfield, 16):0{4 * len(bitfield)}b}" if bitfield else ""
    return piece * (len(bits) - len(bits.lstrip("1")))


def usable(url: str, route: web.Route) -> str:
    """Return why aria2 cannot take an address on its way; empty when it can."""
    if route.proxy is not None and not route.proxy.startswith("http://"):
        return "its proxy is none that aria2 knows"
    if url.startswith("https://") and not os.path.isfile(route.authorities):
        return "its certificates are in a directory"
    return ""


def _proxies(urls: Sequence[str]) -> dict[str, str]:
    """Return aria2's options for the proxies that the environment asks for, each address with its own answer.

    Where every address is https, plain http leads nowhere: aria2 would follow a redirect that steps down.
    """
    secure = all(url.startswith("https://") for url in urls)
    options, direct = {"http-proxy": _NOWHERE if secure else "", "https-proxy": ""}, []
    with web.Session() as session:
        for url in urls:
            scheme, host, _ = web.origin(url)
            proxy = session.route(url).proxy
            if proxy is None:
                direct.append(host)
            else:
                options[f"{scheme}-proxy"] = proxy
    return {**options, "no-proxy": ",".join(direct) if options["https-proxy"] or not secure else ""}


def _client(port: int, secret: str) -> Any:
    """Return a client whose requests never leave this machine, whatever proxies the environment names."""
    import aria2p

    session = web.Session(connect=5, read=30)
    session.trust_env = False

    class Client(aria2p.Client):  # type: ignore[misc,unused-ignore]
        def post(self, payload: str) -> Any:
            return session.post(self.server, data=payload).json()

    return Client("http://127.0.0.1", port, secret)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
