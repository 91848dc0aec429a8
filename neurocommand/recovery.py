"""What is found when a repository is to be published to, and what comes next: a pure ladder, one step at a time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Publication:
    """What is, or was, being published: one revision, so that what a killed run left can be told from other people's.

    Args:
        tag: the name that the revision gets.
        reason: why, for the tag's description.
        revision: the public one before.
        releases: ids of the releases that it is about.
        began: when it was written down, in nanoseconds since 1970.
        transaction: identity of the transaction that it goes in by, once that is known; else empty.
        proofs: paths below the repository, and the sha256 of the bytes that they have once it is public; None: absent.
    """

    tag: str
    reason: str
    revision: int
    releases: tuple[str, ...]
    proofs: tuple[tuple[str, str | None], ...]
    began: int = 0
    transaction: str = ""


@dataclass(frozen=True)
class Transaction:
    """An open transaction.

    Args:
        identity: what no other transaction has: inode and time of its flag.
        opened: when, in nanoseconds since 1970.
        by: the name of the user.
        empty: nothing has been changed in it.
    """

    identity: str
    opened: int
    by: str
    empty: bool


@dataclass(frozen=True)
class Found:
    """How a repository was found.

    Args:
        publication: what our journal names; None: nothing is under way.
        public: whether all of it can be seen by clients.
        tagged: whether it has its tag.
        publishing: somebody holds the lock that ``cvmfs_server`` holds while it publishes.
        transaction: the open one; None: none is open.
        mounted: both mounts are there.
    """

    publication: Publication | None = None
    public: bool = False
    tagged: bool = False
    publishing: bool = False
    transaction: Transaction | None = None
    mounted: bool = True


@dataclass(frozen=True)
class Wait:
    """Wait until whatever is publishing has ended."""


@dataclass(frozen=True)
class Mount:
    """Bring the repository's mounts back."""


@dataclass(frozen=True)
class Abort:
    """Discard our own open transaction; what it held is public already, or is published again."""

    publication: Publication


@dataclass(frozen=True)
class Tag:
    """Give the revision that is public its tag."""

    publication: Publication


@dataclass(frozen=True)
class Close:
    """Forget the publication: it is public and tagged, or nothing of it is there."""

    publication: Publication
    public: bool


@dataclass(frozen=True)
class Foreign:
    """A transaction is open that is not ours: it is never touched."""

    transaction: Transaction


@dataclass(frozen=True)
class Ready:
    """Nothing is left to do: publish."""


Next = Wait | Mount | Abort | Tag | Close | Foreign | Ready


# nanoseconds after which a transaction that nobody has seen being opened is not taken for ours
_AT_ONCE = 60 * 10**9


def is_ours(transaction: Transaction, publication: Publication | None) -> bool:
    """Tell whether an open transaction is that of a publication.

    A run that was killed right when the transaction opened has not written down which one it is. Then it is ours if it
    was opened at once after the publication began, and nothing has been done in it, so that nothing can be lost.
    """
    if publication is None:
        return False
    if publication.transaction:
        return transaction.identity == publication.transaction
    return transaction.empty and 0 <= transaction.opened - publication.began < _AT_ONCE


def following(found: Found) -> Next:
    """Return the next step of the ladder."""
    publication, transaction = found.publication, found.transaction
    if found.publishing:
        return Wait()
    if transaction is not None and not is_ours(transaction, publication):
        return Foreign(transaction)
    if not found.mounted:
        return Mount()
    return Ready() if publication is None else _finishing(found, publication)


def _finishing(found: Found, publication: Publication) -> Next:
    if found.transaction is not None:
        return Abort(publication)
    if found.public and not found.tagged:
        return Tag(publication)
    return Close(publication, found.public)
