"""Keys, and what is signed with them: the manifest and the whitelist. All by openssl."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

STAMP = "%Y%m%d%H%M%S"


def openssl(*argv: str | Path, data: bytes = b"") -> bytes:
    """Run openssl on bytes and return what it writes."""
    return subprocess.run(["openssl", *map(str, argv)], input=data, capture_output=True, check=True).stdout


@dataclass(frozen=True)
class Keys:
    """The four files of a repository's keys."""

    directory: Path
    name: str

    def path(self, kind: str) -> Path:
        """Return a key's file; kinds are masterkey, pub, key, crt."""
        return self.directory / f"{self.name}.{kind}"

    def make(self) -> None:
        """Make what is not there yet."""
        for kind in ("masterkey", "key"):
            if not self.path(kind).exists():
                openssl("genrsa", "-out", self.path(kind), "2048")
                self.path(kind).chmod(0o400)
        if not self.path("pub").exists():
            openssl("rsa", "-in", self.path("masterkey"), "-pubout", "-out", self.path("pub"))
        if not self.path("crt").exists():
            subject = ["-subj", f"/CN={self.name} CernVM-FS Release Managers", "-days", "365"]
            openssl("req", "-new", "-x509", "-sha1", "-key", self.path("key"), "-out", self.path("crt"), *subject)

    def fingerprint(self) -> str:
        """Return the certificate's fingerprint as whitelists write it."""
        found = hashlib.sha1(openssl("x509", "-in", self.path("crt"), "-outform", "der")).hexdigest().upper()
        return ":".join(found[place : place + 2] for place in range(0, 40, 2))


def now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(timezone.utc)


def whitelist(keys: Keys, days: int) -> bytes:
    """Return a signed whitelist that is valid for so many days; none gives one that has expired."""
    begin = now()
    end = begin + timedelta(days=days, seconds=0 if days else -1)
    text = f"{begin:{STAMP}}\nE{end:{STAMP}}\nN{keys.name}\n{keys.fingerprint()}\n".encode()
    digest = hashlib.sha1(text).hexdigest().encode()
    return text + b"--\n" + digest + b"\n" + openssl("pkeyutl", "-sign", "-inkey", keys.path("masterkey"), data=digest)


def expiry(text: bytes) -> datetime:
    """Return when a whitelist expires."""
    line = next(line for line in text.split(b"\n") if line.startswith(b"E"))
    return datetime.strptime(line[1:].decode(), STAMP).replace(tzinfo=timezone.utc)


def parse_manifest(text: bytes) -> dict[str, str]:
    """Return a manifest's fields by their letters, in their order."""
    lines = text.partition(b"\n--\n")[0].decode().split("\n")
    return {line[0]: line[1:] for line in lines}


def unsigned(fields: Mapping[str, str]) -> bytes:
    """Return the text of a manifest that is not signed yet."""
    return "".join(f"{letter}{value}\n" for letter, value in fields.items()).encode()


def manifest(keys: Keys, fields: Mapping[str, str]) -> bytes:
    """Return a signed manifest."""
    text = unsigned(fields)
    digest = hashlib.sha1(text).hexdigest().encode()
    return text + b"--\n" + digest + b"\n" + openssl("dgst", "-sha1", "-sign", keys.path("key"), data=digest)
