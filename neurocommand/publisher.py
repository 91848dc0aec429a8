"""One revision of a CVMFS repository: made, and seen to be what clients get; or the way back, after whatever happened.

Nothing is believed because of an exit code: what counts is what the repository serves over HTTP (docs/design.md §11).
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurocommand import recovery, tags
from neurocommand.answers import Answer, next_step
from neurocommand.changes import Difference
from neurocommand.cvmfs import mounts, parcel, union
from neurocommand.cvmfs.catalogfile import Catalogs
from neurocommand.cvmfs.inventory import Inventories
from neurocommand.cvmfs.journal import Journal
from neurocommand.cvmfs.published import Client
from neurocommand.cvmfs.repository import Repository
from neurocommand.cvmfs.server import Server
from neurocommand.errors import BusyError, CvmfsError, NeurocommandError, RefusedError, system_error
from neurocommand.events import Listener, Noted
from neurocommand.files import free_space, make_directory
from neurocommand.layout import Root
from neurocommand.recovery import Abort, Close, Foreign, Mount, Publication, Ready, Tag, Wait
from neurocommand.runlock import RunLock

_PATIENCE = 900.0  # seconds that somebody else's publication may take
_TICK = 1.0
_HANGS = 60.0  # seconds after the last step of a publication in which it should have ended
_SPOOL = 64 << 20  # bytes that ``ingest`` needs beside the parcel


@dataclass(frozen=True)
class Limits:
    """What has to be there before a repository is written to.

    Args:
        whitelist_days: days that the whitelist must be good for.
        min_free: bytes that the repository's storage must have left beside what is published.
    """

    whitelist_days: float = 7.0
    min_free: int = 1 << 30


@dataclass(frozen=True)
class Template:
    """An image that begins as a published one.

    Args:
        source: path of the published image.
        target: path of the new one.
        inside: what differs between the two, by paths below them.
    """

    source: str
    target: str
    inside: Difference

    def puts(self, difference: Difference) -> list[str]:
        """Return what is put in place of the whole image, and all else."""
        others = [path for path in difference.puts if path != self.target]
        return sorted([*others, *(f"{self.target}/{path}" for path in self.inside.puts)])

    @property
    def removes(self) -> tuple[str, ...]:
        """Paths that the published image has, and the new one has not."""
        return tuple(f"{self.target}/{path}" for path in self.inside.removes)


class Publisher:
    """Publishes to one repository; ``locked`` first."""

    def __init__(
        self,
        repository: Repository,
        client: Client,
        listener: Listener,
        limits: Limits = Limits(),
    ) -> None:
        self.repository = repository
        self.client = client
        self.listener = listener
        self.limits = limits
        self.work = repository.spool / "neurocommand"
        self.server = Server(repository, self.work / "cvmfs_server.log")
        self.journal = Journal(self.work / "journal.json")
        self.inventories = Inventories(self.work / "inventories")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run lock of the repository, and finish what a killed run left.

        Raises:
            BusyError: another run holds it, or somebody else's transaction is open.
            CvmfsError: the repository cannot be brought back to order.
        """
        make_directory(self.work, 0o022)
        with RunLock(self.work / "lock", f"publishing to {self.repository.name}"):
            self.recover()
            self.require_mounted()
            yield

    def require_mounted(self) -> None:
        """See that the repository's directory shows what is published; an empty one says that nothing is deployed.

        Raises:
            CvmfsError: it does not.
        """
        published = Root(self.repository.mount)
        with contextlib.closing(self.client.at(self.client.manifest(expired=True))) as served:
            for path in (published.containers, published.modules):
                inside = path.relative_to(published.path)
                if _is_there(served, str(inside)) and not path.is_dir():
                    raise CvmfsError(
                        f"{self.repository.name}: {path} is not there, though it is published: nothing is mounted",
                        next_step("torn", self.repository.name),
                    )

    def recover(self) -> None:
        """Climb the ladder, until the repository can be published to.

        Raises:
            BusyError: somebody else is at work there.
            CvmfsError: a step of it failed.
        """
        mounted, waited = False, 0.0
        while not isinstance(step := recovery.following(self._found(mounted=mounted)), Ready):
            match step:
                case Wait():
                    self._wait(waited)
                    waited += _TICK
                case Foreign(transaction):
                    raise self._foreign(transaction)
                case Mount():
                    self._must("mount", self.server.mount())
                    mounted = True
                case Abort():
                    self._must("abort", self.server.abort())
                case Tag(publication):
                    self._must("tag", self.server.tag(publication.tag, publication.reason))
                case Close(publication, public):
                    self._note(f"{publication.tag}: {'was published' if public else 'nothing of it was published'}")
                    self.journal.close()

    def _found(self, *, mounted: bool) -> recovery.Found:
        publication, publishing = self.journal.load(), self.server.is_publishing()
        transaction = self.server.open_transaction()
        if publication is None or publishing:
            return recovery.Found(publication, publishing=publishing, transaction=transaction, mounted=mounted)
        public = self.is_public(publication)
        tagged = public and transaction is None and self.server.has_tag(publication.tag)
        return recovery.Found(publication, public, tagged, publishing, transaction, mounted)

    def _wait(self, waited: float) -> None:
        if waited >= _PATIENCE:
            raise BusyError(
                f"{self.repository.name}: somebody has been publishing for {_PATIENCE:.0f} s",
                f"see who holds {self.repository.spool / 'is_publishing.lock'}: {self._holders()}",
            )
        if not waited:
            self._note("somebody is publishing; waiting for the end of it")
        time.sleep(_TICK)

    def _foreign(self, transaction: recovery.Transaction) -> BusyError:
        since = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(transaction.opened / 1e9))
        return BusyError(
            f"{self.repository.name}: {transaction.by} has had a transaction open since {since}; it is left alone",
            next_step("open", self.repository.name),
        )

    def preflight(self, need: int = 0) -> None:
        """See that the repository can be written to, before anything is.

        Args:
            need: bytes that are about to be published, at most.

        Raises:
            CvmfsError: the whitelist is about to expire.
            BusyError: somebody holds the repository's directory.
            RefusedError: there is no space.
        """
        days = (self.client.manifest(expired=True).whitelist_expires - time.time()) / 86400
        if days < self.limits.whitelist_days:
            when = f"expires in {days:.1f} days" if days > 0 else "has expired"
            raise CvmfsError(
                f"{self.repository.name}: the whitelist {when}", next_step("expired", self.repository.name)
            )
        if holders := mounts.holders(self.repository):
            raise BusyError(
                f"{self.repository.name}: {'; '.join(map(str, holders[:3]))}",
                "publishing would wait for it, or take what it reads away: end it, then run again",
            )
        for place, needed in ((self.work, _SPOOL), *((path, need) for path in _storage(self.repository))):
            if (free := free_space(place)) < needed + (self.limits.min_free if place != self.work else 0):
                raise RefusedError(f"{place}: {free} bytes are free, too few to publish", "free some space there")

    def publish(
        self,
        draft: Path,
        difference: Difference,
        releases: Sequence[str],
        reason: str,
        template: Template | None = None,
    ) -> int:
        """Make a revision of what differs in a draft, and see that it is public.

        Args:
            draft: the draft's directory.
            difference: between it and what is published.
            releases: the ids of the releases that it is about.
            reason: for the tag's description.
            template: how one image of it comes to be from a published one.

        Returns:
            The number of the revision.

        Raises:
            CvmfsError, BusyError, RefusedError: it is not public; the repository is as it was before.
        """
        tar = self.work / "parcel.tar" if difference.puts else None
        try:
            if tar is not None:
                parcel.write(tar, draft, difference.puts if template is None else template.puts(difference))
            self.preflight(tar.stat().st_size if tar is not None else 0)
            publication = self._begun(draft, difference, releases, reason)
            if template is None:
                return self._publish(publication, lambda: self._in(tar, difference, publication))
            return self._publish(publication, lambda: self._from(template, draft, tar, difference, publication))
        except OSError as error:
            raise system_error(self.repository.name, error, CvmfsError) from error
        finally:
            if tar is not None:
                tar.unlink(missing_ok=True)

    def _begun(self, draft: Path, difference: Difference, releases: Sequence[str], reason: str) -> Publication:
        """Write down what is about to be published."""
        before, now = self.client.manifest().revision, time.time_ns()
        tag = time.strftime(f"{tags.OURS}%Y-%m-%dT%H.%M.%SZ-{before}", time.gmtime(now / 1e9))
        publication = Publication(tag, reason, before, tuple(releases), self._proofs(draft, difference), now)
        self.journal.begin(publication)
        return publication

    def _publish(self, publication: Publication, let_in: Callable[[], Answer]) -> int:
        try:
            answer = let_in()
            public = self.is_public(publication)
        finally:
            self.recover()
        if not public:
            raise self._failure("publish", answer)
        return self.client.manifest(expired=True).revision

    def _in(self, tar: Path | None, difference: Difference, publication: Publication) -> Answer:
        """Let the changes in by the way that can take them."""
        if not difference.exchanged:
            return self.server.ingest(tar, difference.removes, self._watch)
        return self._in_transaction(None, tar, difference.removes, publication)

    def _from(
        self, template: Template, draft: Path, tar: Path | None, difference: Difference, publication: Publication
    ) -> Answer:
        """Let an image begin as a published one: first a place for it, then all else in one transaction."""
        place = self.work / "place.tar"
        directory = (draft / template.target).parent
        pending = directory / "record.pending.json"
        pending.touch(0o644)
        paths = [str(path.relative_to(draft)) for path in (directory, pending)]
        try:
            parcel.write(place, draft, paths)
            answer = self.server.ingest(place, (), self._watch)
        finally:
            place.unlink(missing_ok=True)
        if answer.meaning != "done":
            return answer
        removes = (*difference.removes, *template.removes, paths[1])
        return self._in_transaction((template.source, template.target), tar, removes, publication)

    def _in_transaction(
        self, template: tuple[str, str] | None, tar: Path | None, removes: Sequence[str], publication: Publication
    ) -> Answer:
        answer = self.server.transaction(template)
        if answer.meaning != "done":
            return answer
        self._claim(again=True)
        union.change(self.repository.mount, tar, removes)
        return self.server.publish(publication.tag, publication.reason, self._watch)

    def _claim(self, *, again: bool = False) -> None:
        publication, transaction = self.journal.load(), self.server.open_transaction()
        if publication is not None and (again or not publication.transaction) and transaction is not None:
            self.journal.claim(transaction.identity)

    def _watch(self, seconds: float, said: str) -> None:
        """See which transaction is ours; and tell what a publication waits for that is public but does not end."""
        self._claim()
        if (
            seconds > _HANGS
            and "Remounting newly created repository revision" in said
            and int(seconds) % int(_HANGS) == 0
        ):
            self._note(f"the new revision is public, but cvmfs_server still waits for its mount: {self._holders()}")

    def rollback(self, name: str) -> int:
        """Make a new revision with the content that a tag names; what came after it is published no more.

        Returns:
            The number of the revision.

        Raises:
            CvmfsError, BusyError: nothing was rolled back.
        """
        before = self.client.manifest().revision
        answer = self.server.rollback(name, lambda _seconds, _said: None)
        revision = self.client.manifest().revision
        at = {tag.name: tag.revision for tag in tags.parse(self.server.tags())}
        if answer.meaning != "done" or revision <= before or at.get(name) != revision:
            raise self._failure("rollback", answer)
        return revision

    def collect(self, *, dry_run: bool) -> str:
        """Remove what no kept revision needs, or see what would go; return what ``cvmfs_server`` says of it.

        Raises:
            CvmfsError, BusyError, RefusedError: it failed.
        """
        answer = self.server.collect(lambda _seconds, _said: None, dry_run=dry_run)
        # the exit code alone tells little
        if answer.meaning != "done" or "done garbage collecting" not in answer.said:
            raise self._failure("gc", answer)
        return answer.said

    def is_public(self, publication: Publication) -> bool:
        """Tell whether all of a publication is served to clients.

        Raises:
            CvmfsError: what is served cannot be read, or is not signed as it should be.
        """
        manifest = self.client.manifest(expired=True)
        if manifest.revision <= publication.revision:
            return False
        with contextlib.closing(self.client.at(manifest)) as served:
            for path, digest in publication.proofs:
                if digest is None and _is_there(served, path):
                    return False
                if digest is not None and ((content := served.read(f"/{path}")) is None or _sha256(content) != digest):
                    return False
        return True

    def _proofs(self, draft: Path, difference: Difference) -> tuple[tuple[str, str | None], ...]:
        """Choose what a publication is recognised by: every record, and what goes by all releases."""
        chosen = [path for path in difference.puts if path.endswith("/record.json") and path.count("/") == 2]
        chosen += [path for path in difference.puts if path == "commands.tsv"]
        files = [path for path in difference.puts if (draft / path).is_file() and not (draft / path).is_symlink()]
        proofs: dict[str, str | None] = {path: None for path in difference.removes if path not in difference.puts}
        for path in chosen or files[:5]:
            proofs[path] = _sha256((draft / path).read_bytes())
        return tuple(sorted(proofs.items()))

    def _must(self, command: str, answer: Answer) -> None:
        if answer.meaning == "publishing":
            time.sleep(_TICK)  # the ladder sees it
        elif answer.meaning != "done":
            raise self._failure(command, answer)

    def _failure(self, command: str, answer: Answer) -> NeurocommandError:
        name = self.repository.name
        text = f"{name}: cvmfs_server {command}: {answer.said or 'it says nothing, and nothing came of it'}"
        kinds = {
            "open": BusyError,
            "publishing": BusyError,
            "held": BusyError,
            "full": RefusedError,
            "spool full": RefusedError,
        }
        return kinds.get(answer.meaning, CvmfsError)(text, next_step(answer.meaning, name))

    def _holders(self) -> str:
        return "; ".join(map(str, mounts.holders(self.repository))) or "nobody that can be seen"

    def _note(self, text: str) -> None:
        self.listener(Noted(self.repository.name, text))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_there(served: Catalogs, path: str) -> bool:
    above, _, name = f"/{path}".rpartition("/")
    return name in (served.entries(above or "/") or ())


def _storage(repository: Repository) -> Iterator[Path]:
    """Yield the directory that holds the repository's objects, where it is on this machine."""
    kind, *parts = repository.upstream.split(",")
    if kind == "local" and len(parts) == 2:
        yield Path(parts[1])
