"""What ``status --probe`` asks and shows: the servers of the CVMFS repository, and what all stores must hold."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neurocommand import freshness
from neurocommand.commands import report
from neurocommand.commands.session import Session
from neurocommand.cvmfs import repository
from neurocommand.cvmfs.probe import Missing, Probe
from neurocommand.errors import NeurocommandError, UsageError, printable_lines
from neurocommand.freshness import Answer, Limits, Silence, Verdict
from neurocommand.manifest import Manifest
from neurocommand.model import Release
from neurocommand.observation import Observation, Unknown
from neurocommand.settings import CvmfsSettings


@dataclass(frozen=True)
class Server:
    """One server: its address, what it said, how it is, and since when its revision has been signed, in seconds."""

    url: str
    answer: Answer | Silence
    verdict: Verdict
    age: float | None

    def values(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        answer = self.answer if isinstance(self.answer, Answer) else None
        return {
            "server": self.url,
            "state": self.verdict.state,
            "failing": self.verdict.failing,
            "revision": answer.revision if answer else None,
            "root_catalog": answer.root if answer else None,
            "age_seconds": round(self.age) if self.age is not None else None,
            "whitelist_expires": answer.expires if answer else None,
            "milliseconds": answer.milliseconds if answer else None,
            "reason": self.verdict.reason,
            "next": self.verdict.hint,
        }

    def lines(self) -> list[str]:
        """Return it as people read it."""
        words = [self.verdict.state]
        if isinstance(self.answer, Answer) and self.age is not None:
            words.append(f"revision {self.answer.revision}, signed {freshness.text_of(max(0.0, self.age))} ago")
            words.append(f"{self.answer.milliseconds} ms")
        reason = f": {self.verdict.reason}" if self.verdict.reason else ""
        hint = [f"  next: {self.verdict.hint}"] if self.verdict.hint and self.verdict.state != "ok" else []
        return [f"{self.url}: {', '.join(words)}{reason}", *hint]


@dataclass(frozen=True)
class Absent:
    """A release that somebody does not see: where (a store, a server, or empty for all servers), and why."""

    release: str
    where: str
    reason: str


@dataclass(frozen=True)
class Probed:
    """Everything that was found."""

    servers: tuple[Server, ...]
    missing: tuple[Absent, ...]
    live: int

    @property
    def failing(self) -> bool:
        """Whether somebody has to do something."""
        return bool(self.missing) or any(server.verdict.failing for server in self.servers)

    def values(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        missing = [{"release": one.release, "where": one.where, "reason": one.reason} for one in self.missing]
        return {"servers": [server.values() for server in self.servers], "missing": missing, "live": self.live}

    def lines(self) -> list[str]:
        """Return it as people read it."""
        lines = [printable_lines(line) for server in self.servers for line in server.lines()]
        for one in self.missing:
            where = f" on {one.where}" if one.where else ""
            lines.append(printable_lines(f"{one.release or 'releases'}: missing{where}: {one.reason}"))
        faults = sum(server.verdict.failing for server in self.servers)
        servers = f"{report.count(len(self.servers), 'server')}, {faults} of them not as it should be"
        return [*lines, f"{servers}; {report.count(self.live, 'live release')}, {len(self.missing)} missing somewhere"]


def require(session: Session) -> tuple[CvmfsSettings, tuple[str, ...]]:
    """Return what the configuration says of the repository, and the addresses to ask, the stratum 0's first.

    Raises:
        UsageError: it says nothing, or names no server.
    """
    settings = session.settings.cvmfs
    if settings is None:
        raise UsageError("no CVMFS repository to probe", "set cvmfs.repository and cvmfs.servers in neurocommand.yaml")
    return settings, _addresses(settings)


def run(session: Session, wanted: Manifest, observation: Observation, seconds: float) -> Probed:
    """Ask all servers, and hold servers and stores against what is live.

    Args:
        session: the run.
        wanted: the releases that matter.
        observation: what the stores said.
        seconds: that one server may take for each question.
    """
    settings, urls = require(session)
    live = [d.release for d in wanted.declarations if _is_live(session, observation, d.release)]
    probe = Probe(settings.repository, urls, settings.public_key, seconds)
    try:
        answers = probe.ask()
        now = time.time()
        reference = freshness.newest(answers, stratum0=settings.stratum0 is not None)
        limits = Limits(settings.lag_minutes, settings.age_hours)
        servers = tuple(
            Server(_shown(url), answer, freshness.judge(answer, reference, limits, now), _age(answer, now))
            for url, answer in zip(probe.urls, answers, strict=True)
        )
        fresh = [
            url
            for url, answer in zip(probe.urls, answers, strict=True)
            if isinstance(answer, Answer) and reference is not None and answer.root == reference.root
        ]
        paths = {f"/containers/{release.id}/{settings.release_file}": release.id for release in live}
        absent = [_absent(paths, one) for one in probe.missing(fresh, tuple(paths))] if fresh and paths else []
    finally:
        probe.close()
    return Probed(servers, (*_lacking(session, observation, live), *absent), len(live))


def _is_live(session: Session, observation: Observation, release: Release) -> bool:
    """Tell whether a store holds a release, by its locked bytes where it is locked."""
    artifact = session.lock.lock.get(release)
    found = [view.ask(release) for view in observation.stores]
    return any(
        seen is not None and not isinstance(seen, Unknown) and (artifact is None or seen.agrees(artifact))
        for seen in found
    )


def _lacking(session: Session, observation: Observation, live: Sequence[Release]) -> list[Absent]:
    """Name the stores that do not have what another one has."""
    missing = []
    for release in live:
        artifact = session.lock.lock.get(release)
        for view in observation.stores:
            seen = view.ask(release)
            if isinstance(seen, Unknown):
                missing.append(Absent(release.id, f"the store {view.name}", f"it cannot tell: {seen.reason}"))
            elif seen is None:
                missing.append(Absent(release.id, f"the store {view.name}", "neurocommand mirror puts it there"))
            elif artifact is not None and not seen.agrees(artifact):
                missing.append(Absent(release.id, f"the store {view.name}", "damaged: neurocommand repair mends it"))
    return missing


def _addresses(settings: CvmfsSettings) -> tuple[str, ...]:
    """Return the addresses to ask, the stratum 0's first; this machine's own where it publishes and none are named."""
    if settings.addresses:
        return settings.addresses
    try:
        return (repository.read(settings.repository, settings.configuration).url,)
    except NeurocommandError as error:
        raise UsageError(
            f"no server of {settings.repository} is named", "set cvmfs.servers in neurocommand.yaml"
        ) from error


def _absent(paths: dict[str, str], missing: Missing) -> Absent:
    return Absent(paths.get(missing.path, ""), missing.server, missing.reason)


def _age(answer: Answer | Silence, now: float) -> float | None:
    return now - answer.signed if isinstance(answer, Answer) else None


def _shown(url: str) -> str:
    return printable_lines(url)
