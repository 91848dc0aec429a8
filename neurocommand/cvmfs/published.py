"""What a server of a repository gives to clients: its revision, verified from the master key down to every byte.

The chain: the master public key has signed the whitelist; the whitelist names a certificate; the certificate has signed
``.cvmfspublished``; that names the root catalog by its SHA-1; catalogs name each other and all files by theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from neurocommand.cvmfs import letters, signature
from neurocommand.cvmfs.catalogfile import Catalogs
from neurocommand.cvmfs.objects import ObjectName, Objects
from neurocommand.errors import CvmfsBehindError, CvmfsExpiredError, CvmfsUntrustedError, printable

_CERTIFICATE_LIMIT = 1 << 16  # bytes; a real one has about a thousand


@dataclass(frozen=True)
class Published:
    """A revision, as the repository's key vouches for it.

    Args:
        name: of the repository.
        revision: its number, higher with each change.
        root_catalog: bare hex SHA-1 of the root catalog; equal ones mean equal content.
        timestamp: Unix time of the last signing.
        ttl: seconds for which clients do not ask again.
        whitelist_expires: Unix time from which clients refuse it.
        root_size: bytes of the root catalog; None where it is not said.
        history: the object that holds the tags; None without any.
        meta: the object that holds what is said about the repository; None without.
    """

    name: str
    revision: int
    root_catalog: str
    timestamp: int
    ttl: int
    whitelist_expires: int
    root_size: int | None = None
    history: str | None = None
    meta: str | None = None


class Client:
    """A client of a repository at one address; one thread may use it at a time.

    Args:
        url: of the repository: ``http://host/cvmfs/neurodesk.example.org``.
        public_key: the file of its master public key.
        name: of the repository; whatever the server says where none is given.
        connect: seconds to wait for a connection.
        read: seconds to wait for the next bytes.
        seconds: that one file may take as a whole.
        clock: returns the Unix time.
    """

    def __init__(
        self,
        url: str,
        public_key: Path,
        *,
        name: str | None = None,
        connect: float = 10.0,
        read: float = 30.0,
        seconds: float = 300.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.objects = Objects(url, connect=connect, read=read, seconds=seconds)
        self.public_key = public_key
        self.name = name
        self._clock = clock
        self._seen: Published | None = None
        self.seconds = 0.0  # that the last answer took

    def manifest(self, *, expired: bool = False) -> Published:
        """Ask for the revision that clients get now.

        Args:
            expired: take one whose whitelist has expired, too; the caller looks at ``whitelist_expires``.

        Raises:
            CvmfsDownError: there is no answer that can be used.
            CvmfsError: the public key cannot be read, or the server lacks the certificate.
            CvmfsUntrustedError: something between the master key and the revision is not right.
            CvmfsExpiredError: the whitelist has expired.
            CvmfsBehindError: the server went back to an earlier revision than it gave before.
            ProcessError: there is no openssl.
        """
        whitelist = self._letter(letters.WHITELIST)
        signed = self._letter(letters.PUBLISHED)
        listed, stated = letters.whitelist(whitelist), letters.manifest(signed)
        signature.check_whitelist(whitelist, self.public_key)
        self._check_names(listed.name, stated.name)
        if listed.expires <= self._clock() and not expired:
            raise CvmfsExpiredError(
                f"{self.objects.shown}: the whitelist of {printable(listed.name)} has expired",
                "sign it anew with the master key: cvmfs_server resign",
            )
        certificate = self.objects.content(ObjectName(stated.certificate, "X"), _CERTIFICATE_LIMIT)
        signature.check_manifest(signed, certificate, listed.fingerprints)
        found = Published(
            name=stated.name,
            revision=stated.revision,
            root_catalog=stated.root_catalog,
            timestamp=stated.timestamp,
            ttl=stated.ttl,
            whitelist_expires=listed.expires,
            root_size=stated.root_size,
            history=stated.history,
            meta=stated.meta,
        )
        return self._in_order(found)

    def at(self, published: Published) -> Catalogs:
        """Return what a revision holds."""
        return Catalogs(self.objects, ObjectName(published.root_catalog, "C"), published.root_size)

    def close(self) -> None:
        """Close the connections that are kept for the next request."""
        self.objects.close()

    def _letter(self, filename: str) -> letters.Letter:
        started = time.monotonic()
        content = self.objects.file(filename, letters.LIMIT)
        self.seconds = time.monotonic() - started
        return letters.letter(content, filename)

    def _check_names(self, listed: str, stated: str) -> None:
        expected = self.name or listed
        for filename, name in ((letters.WHITELIST, listed), (letters.PUBLISHED, stated)):
            if name != expected:
                raise CvmfsUntrustedError(
                    f"{self.objects.shown}: {filename} is about {printable(name)!r}, not {printable(expected)!r}",
                    "correct the server's address, or the repository's name",
                )

    def _in_order(self, found: Published) -> Published:
        """Remember the newest revision, and refuse what went back behind it."""
        seen = self._seen
        hint = "does a cache stand in between, or several servers behind one address? Ask again in some minutes"
        if seen is not None and found.revision < seen.revision:
            message = f"{self.objects.shown}: went back from revision {seen.revision} to {found.revision}"
            raise CvmfsBehindError(message, hint)
        if seen is not None and found.revision == seen.revision and found.root_catalog != seen.root_catalog:
            message = f"{self.objects.shown}: shows two different revisions {found.revision}"
            raise CvmfsBehindError(message, "two machines publish the repository: stop one of them")
        self._seen = found
        return found
