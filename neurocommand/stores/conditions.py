"""Two writers of one object: S3's conditional writes, and what is done where a server does not know them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from neurocommand.errors import ImmutableError, StoreError, TransientStoreError
from neurocommand.model import Artifact, StoredObject
from neurocommand.stores.s3faults import code, status


@dataclass(frozen=True)
class Seen:
    """What a server says about an object: what is known of every store's, its entity tag, and its sha256 checksum.

    The checksum is base64, without the number of parts (``-3``) that some servers add to that of an upload in parts.
    """

    stated: StoredObject
    etag: str
    checksum: str


@dataclass(frozen=True)
class Written:
    """What a write made: the entity tag that the server gave it, and the checksum that the server should state."""

    etag: str
    checksum: str


class LostError(Exception):
    """Somebody else wrote the object since it was looked at."""


class Conditions:
    """Writes that happen only if an object is still as it was seen; remembers which conditions the server knows.

    A server that does not know a condition says so (501); there the object is looked at once more right before the
    write. One that ignores conditions, or decides them late, cannot be told apart from one that keeps them: what is
    there after the write is compared as well (``check_written``).
    """

    def __init__(self) -> None:
        self._unknown: set[str] = set()

    def write(
        self, write: Callable[[dict[str, str]], Written], before: Seen | None, look: Callable[[], Seen | None]
    ) -> Written:
        """Write.

        Args:
            write: makes the object visible; takes the condition as arguments of boto3.
            before: what was under the key when the upload began.
            look: asks what is there now.

        Raises:
            LostError: something else is there now.
        """
        from botocore.exceptions import ClientError

        condition = _condition(before)
        if condition and not self._unknown.intersection(condition):
            try:
                return write(condition)
            except ClientError as error:
                if _says_lost(error):
                    raise LostError from error
                if status(error) != 501:
                    raise
                self._unknown.update(condition)
        if look() != before:
            raise LostError
        try:
            return write({})
        except ClientError as error:
            if _says_lost(error):
                raise LostError from error
            raise


def _condition(before: Seen | None) -> dict[str, str]:
    if before is None:
        return {"IfNoneMatch": "*"}
    return {"IfMatch": before.etag} if before.etag else {}


def _says_lost(error: Exception) -> bool:
    """Tell whether a condition was not met; an answer that was lost shows as an upload that is completed already."""
    return status(error) in (409, 412) or code(error) == "NoSuchUpload"


def settle(store: str, key: str, artifact: Artifact, seen: Seen | None) -> None:
    """Decide what it means that somebody else was first: the same artifact is as good as ours.

    Raises:
        ImmutableError: they are other bytes.
        TransientStoreError: they are gone again.
        StoreError: it is not known what bytes they are.
    """
    if seen is None:
        raise TransientStoreError(f"store {store}: somebody else changed {key} meanwhile, and it holds none now")
    stated = seen.stated
    if not stated.agrees(artifact):
        raise ImmutableError(
            f"store {store}: somebody else put another {key} meanwhile: {stated.size} bytes, "
            f"sha256 {stated.sha256 or 'not stated'}; ours has {artifact.size} bytes, sha256 {artifact.sha256}",
            "a release id never changes its bytes: find out who else uploads, and which of the two is right",
        )
    if stated.sha256 is None:
        raise StoreError(
            f"store {store}: somebody else put {key} meanwhile, and its digest is not stated",
            "run again: then it is compared, and replaced where it must be",
        )


def check_written(store: str, artifact: Artifact, written: Written, before: Seen | None, after: Seen | None) -> None:
    """Look for another writer's bytes, and for damage on the way, in what a server says after a write.

    Raises:
        LostError: another digest is stated than ours, and not the one that was there before.
        StoreError: the server keeps another checksum of our object than that of the bytes that were sent.
    """
    if after is None or after == before:
        return
    ours, key = bool(written.etag) and after.etag == written.etag, after.stated.key
    if ours and after.checksum not in ("", written.checksum):
        raise StoreError(
            f"store {store}: after writing, {key} has the checksum {after.checksum}; {written.checksum} was sent",
            "the object is damaged there: run again, and look at the store if it stays so",
        )
    if not ours and after.stated.sha256 not in (None, artifact.sha256):
        raise LostError
