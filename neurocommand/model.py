"""The values that the layers hand to each other; all frozen, all valid once they exist."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

APPLICATION = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.]{0,63}", re.ASCII)
BUILD_DATE = re.compile(r"[0-9]{8}|latest", re.ASCII)
SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
# bytes; what a file system or a length field can hold ends here
SIZE_LIMIT = 1 << 63

REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*", re.ASCII)
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
REGISTRY = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?", re.ASCII)

Format = Literal["tree", "sif"]


@dataclass(frozen=True, order=True, slots=True)
class Release:
    """One build of one version of an application: ``fsl_6.0.7.16_20250131``.

    Every name rule holds for an existing value, so a release is safe as a part of a path, of an object key and of an
    image reference.

    Raises:
        ValueError: a part breaks its rule.
    """

    application: str
    version: str
    build_date: str

    def __post_init__(self) -> None:
        if not APPLICATION.fullmatch(self.application):
            raise ValueError(f"application {self.application!r}: use a-z 0-9 - _, at most 64, a letter or digit first")
        if not VERSION.fullmatch(self.version):
            raise ValueError(f"version {self.version!r}: use letters, digits and dots, at most 64, no dot first")
        if not BUILD_DATE.fullmatch(self.build_date):
            raise ValueError(f"build date {self.build_date!r}: use YYYYMMDD")

    @classmethod
    def parse(cls, text: str) -> Release:
        """Read a release id from the right, since only an application's name may hold ``_``.

        Raises:
            ValueError: the text is no release id.

        >>> Release.parse("neurodesktop-lite_arm64_20260428_20260428").application
        'neurodesktop-lite_arm64'
        """
        parts = text.rsplit("_", 2)
        if len(parts) != 3:
            raise ValueError(f"{text!r} is no release id (application_version_builddate)")
        return cls(*parts)

    @property
    def id(self) -> str:
        """The release id, ``application_version_builddate``."""
        return f"{self.application}_{self.version}_{self.build_date}"

    @property
    def precedence(self) -> tuple[str, ...]:
        """Sort key that puts versions in the order in which Lmod takes the highest one as the default.

        Numbers compare as numbers, letters after a number come before its end (``1.0a`` < ``1.0``), trailing zeros do
        not count; the build date decides between equals. Held against the real Lmod by ``tests/e2e/test_modules.py``
        (Lmod documentation, "Picking modules when there are multiple versions").

        >>> sorted(["2.0.9", "2.0.20", "2.0"], key=lambda v: Release("x", v, "20260101").precedence)
        ['2.0', '2.0.9', '2.0.20']
        """
        parts: list[str] = []
        for part in re.findall(r"[0-9]+|[a-z]+", self.version.lower()):
            if part.isdigit():
                parts.append(part.zfill(64))
                continue
            _drop_trailing_zeros(parts)
            parts.append("*" + _LETTERS.get(part, part))
        _drop_trailing_zeros(parts)
        return (*parts, "*~", self.build_date)

    def __str__(self) -> str:
        return self.id


_LETTERS = {"pre": "c", "preview": "c", "rc": "c", "dev": "@"}


def _drop_trailing_zeros(parts: list[str]) -> None:
    while parts and not parts[-1].strip("0"):
        parts.pop()


@dataclass(frozen=True, slots=True)
class Launcher:
    """A GUI entry of a release: label ``fsleyesGUI-fsl 6.0.4``, command ``fsleyes`` with its arguments."""

    label: str
    release: Release
    command: str


@dataclass(frozen=True, slots=True)
class Notice:
    """What users of a deprecated or withdrawn release are told.

    Args:
        reason: why, in one line for people.
        successor: what replaces it; None where nothing does.
        since: the day from which on it holds, ``YYYY-MM-DD``; empty when it is not known.
    """

    reason: str
    successor: Release | None = None
    since: str = ""

    @property
    def text(self) -> str:
        """The notice as the end of a sentence: ``since 2026-01-31: wrong results; use fsl/6.0.7.18 instead``."""
        when = f" since {self.since}" if self.since else ""
        instead = f"; use {self.successor.application}/{self.successor.version} instead" if self.successor else ""
        return f"{when}: {self.reason.rstrip('.')}{instead}".lstrip()

    def after(self, words: str) -> str:
        """Return the sentence that begins with some words and ends with the notice.

        >>> Notice("wrong results").after("fsl/6.0.4 is withdrawn")
        'fsl/6.0.4 is withdrawn: wrong results'
        """
        return f"{words} {self.text}" if self.since else f"{words}{self.text}"


@dataclass(frozen=True, slots=True)
class About:
    """What people say of an application; every field may be empty."""

    description: str = ""
    url: str = ""
    licence: str = ""
    citation: str = ""
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Artifact:
    """The locked identity of a release's SIF: bare hex sha256, size in bytes, bare hex digest of the source image.

    ``source_digest`` is None when the SIF was adopted from a store, so that its image is not known.

    Raises:
        ValueError: a field breaks its rule.
    """

    sha256: str
    size: int
    source_digest: str | None = None

    def __post_init__(self) -> None:
        if not SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256 {self.sha256!r}: use 64 lower-case hexadecimal digits")
        if not 0 <= self.size < SIZE_LIMIT:
            raise ValueError(f"size {self.size}: use a number of bytes below 2**63")
        if self.source_digest is not None and not SHA256.fullmatch(self.source_digest):
            raise ValueError(f"source_digest {self.source_digest!r}: use 64 lower-case hexadecimal digits")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object seen in a store: its key, its size in bytes and its sha256 (bare hex) where the store states one."""

    key: str
    size: int
    sha256: str | None = None

    def agrees(self, artifact: Artifact) -> bool:
        """Tell whether nothing that the store states contradicts the artifact."""
        return self.size == artifact.size and self.sha256 in (None, artifact.sha256)


@dataclass(frozen=True, slots=True)
class SkippedCommand:
    """A program of the image that gets no wrapper, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the file system of an image says about its use, read without running it.

    Args:
        commands: names of the commands to wrap; sorted, unique, safe as file names.
        skipped: programs found but not exposed, each with its reason.
        environment: the image's ``DEPLOY_ENV_<NAME>`` values as (NAME, value), sorted by name; values as recorded.
        readme: text of the image's ``/README.md``; empty when it has none.
        architecture: the architecture of its programs as SIF names it (``amd64``, ``arm64``); empty when not known.
        glibc: the version of its C library, ``2.31``; empty when it has another one, or none that is known.
    """

    commands: tuple[str, ...]
    skipped: tuple[SkippedCommand, ...]
    environment: tuple[tuple[str, str], ...]
    readme: str
    architecture: str = ""
    glibc: str = ""


@dataclass(frozen=True, slots=True)
class DeployRecord:
    """What was deployed under a root; written last, and "deployed" means that this record is true.

    Args:
        release: what was deployed.
        sha256: bare hex digest of the SIF that it was made from.
        size: size of that SIF in bytes.
        format: ``tree`` (unpacked) or ``sif`` (the file itself).
        commands: names of the wrappers in ``bin/``.
        categories: categories that link to its modulefile.
        wrapper_revision: identity of what wrappers and modulefile were made from.
        withdrawn: why the image is gone, and its wrappers and module only say so; None while the release is live.
    """

    release: Release
    sha256: str
    size: int
    format: Format
    commands: tuple[str, ...]
    categories: tuple[str, ...]
    wrapper_revision: str
    withdrawn: Notice | None = None


@dataclass(frozen=True, slots=True)
class ImageReference:
    """Where an image is kept: ``registry/repository:tag``.

    Args:
        registry: host, with ``:port`` where it is not the usual one.
        repository: path of the image in the registry.
        tag: its tag.
        insecure: ask by plain http (a registry on this machine).

    Raises:
        ValueError: a part breaks the rule of the OCI distribution specification,
            https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests
    """

    registry: str
    repository: str
    tag: str
    insecure: bool = False

    def __post_init__(self) -> None:
        if not REGISTRY.fullmatch(self.registry):
            raise ValueError(f"registry {self.registry!r}: use host or host:port")
        if not REPOSITORY.fullmatch(self.repository):
            raise ValueError(f"repository {self.repository!r}: use a-z 0-9, with . _ - or / between them")
        if not TAG.fullmatch(self.tag):
            raise ValueError(f"tag {self.tag!r}: use letters, digits, _ . -, at most 128, no . or - first")

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}:{self.tag}"
