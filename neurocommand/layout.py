"""Every name rule: object keys, image references, and the places under a root (docs/design.md §4)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurocommand.model import TAG, ImageReference, Release

SUFFIX = ".simg"
# ends the second name of each module, which also keeps containers running; no version has a dash
WARM = "-warm"


def object_key(release: Release) -> str:
    """Return the key of a release's SIF in every store.

    >>> object_key(Release("fsl", "6.0.4", "20210105"))
    'fsl_6.0.4_20210105.simg'
    """
    return release.id + SUFFIX


def release_of_key(key: str) -> Release | None:
    """Return the release whose SIF a key names; None for any other key."""
    if not key.endswith(SUFFIX):
        return None
    try:
        return Release.parse(key.removesuffix(SUFFIX))
    except ValueError:
        return None


def image_names(release: Release, templates: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield a release's possible (repository, tag) in a registry, in the order of the templates.

    Args:
        release: the release.
        templates: ``repository:tag`` with the fields application, version and build_date.

    >>> list(image_names(Release("fsl", "6.0.4", "20210105"), ["{application}_{version}:{build_date}"]))
    [('fsl_6.0.4', '20210105')]
    """
    for template in templates:
        fields = {"application": release.application, "version": release.version, "build_date": release.build_date}
        repository, _, tag = template.format(**fields).rpartition(":")
        yield repository, tag


def image_references(
    release: Release, registry: str, templates: Sequence[str], *, insecure: bool = False
) -> Iterator[ImageReference]:
    """Yield a release's possible images in a registry, in the order of the templates.

    Args:
        release: the release.
        registry: ``host[:port][/path]``.
        templates: see ``image_names``.
        insecure: the registry speaks plain http.

    Raises:
        ValueError: a registry cannot hold an image of such a name.

    >>> [str(image) for image in image_references(Release("fsl", "6", "20210105"), "ghcr.io/x", ["{application}:1"])]
    ['ghcr.io/x/fsl:1']
    """
    host, _, path = registry.partition("/")
    for name, tag in image_names(release, templates):
        yield ImageReference(host, f"{path}/{name}" if path else name, tag, insecure)


def sif_tag(release: Release) -> str:
    """Return the tag of a release's SIF in a repository that holds nothing but SIFs: the release id.

    One repository holds all, since registries list the tags of a repository, but not everybody their repositories;
    and an application's name may hold what a repository's name may not (``a__b_``).

    Raises:
        ValueError: the id is longer than a tag may be.

    >>> sif_tag(Release("fsl", "6.0.4", "20210105"))
    'fsl_6.0.4_20210105'
    """
    if not TAG.fullmatch(release.id):
        raise ValueError(f"{release.id} is no tag: at most 128 characters")
    return release.id


def release_of_tag(tag: str) -> Release | None:
    """Return the release whose SIF a tag names; None for any other tag.

    >>> release_of_tag("latest") is None
    True
    """
    try:
        return Release.parse(tag)
    except ValueError:
        return None


def owner_of_modulefile(text: str) -> str:
    r"""Return whose a modulefile of ours is, as its second line says: a release id, application or set; else nothing.

    >>> owner_of_modulefile("-- -*- lua -*-\n-- fsl_6.0.4_20210105: made by neurocommand; …")
    'fsl_6.0.4_20210105'
    """
    match = re.match(r"[^\n]*\n(?:--|#) (\S+): made by neurocommand", text)
    return match[1] if match else ""


def is_tombstone(text: str) -> bool:
    r"""Tell whether a modulefile of ours is that of a withdrawn release, as its second line says.

    >>> is_tombstone("#%Module1.0\n# fsl_6.0.4_20210105: made by neurocommand; withdrawn: …")
    True
    """
    return bool(re.match(r"[^\n]*\n(?:--|#) \S+: made by neurocommand; withdrawn", text))


def release_of_image(path: str) -> Release | None:
    """Return the release whose image stands at a path relative to a root; None for any other path.

    >>> str(release_of_image("containers/fsl_6.0.4_20210105/fsl_6.0.4_20210105.simg"))
    'fsl_6.0.4_20210105'
    """
    above, _, name = path.rpartition("/")
    release = release_of_key(name)
    return release if release is not None and above == f"containers/{release.id}" else None


def category_directory(category: str) -> str:
    """Return the directory of a category; both spellings of apps.json give the same.

    >>> category_directory("image registration")
    'image_registration'
    """
    return category.replace(" ", "_")


@dataclass(frozen=True)
class Root:
    """The places under one root; see docs/design.md §4."""

    path: Path

    @property
    def state(self) -> Path:
        """Where this root's own bookkeeping is."""
        return self.path / ".neurocommand"

    @property
    def run_lock(self) -> Path:
        """The run lock of this root."""
        return self.state / "lock"

    @property
    def staging(self) -> Path:
        """Where releases are put together, on the file system of their final place."""
        return self.state / "staging"

    @property
    def spool(self) -> Path:
        """The spool of installs into this root."""
        return self.state / "spool"

    @property
    def containers(self) -> Path:
        """Where deployed releases are."""
        return self.path / "containers"

    @property
    def modules(self) -> Path:
        """The canonical module tree: what users give to ``module use``."""
        return self.path / "modules"

    @property
    def modules_link(self) -> Path:
        """The name of the module tree that Neurodesk's users know."""
        return self.containers / "modules"

    @property
    def lock(self) -> Path:
        """The lock of releases that were installed here without being in the project's."""
        return self.state / "apps.lock.json"

    @property
    def index(self) -> Path:
        """Which release gives which commands; open to everybody who may read what is deployed."""
        return self.path / "commands.tsv"

    def release(self, release: Release) -> ReleaseDirectory:
        """Return the places of one deployed release."""
        return ReleaseDirectory(self.containers / release.id, release)

    @property
    def modules_tcl(self) -> Path:
        """The module tree for Environment Modules."""
        return self.path / "modules-tcl"

    @property
    def lmod(self) -> Path:
        """Where Lmod's cache of the module trees is, and what tells Lmod of it."""
        return self.path / "lmod"

    def modulefile(self, release: Release, variant: str = "") -> Path:
        """Return the canonical modulefile of a release, or (of the variant ``-warm``) the link to it."""
        return self.modules / release.application / f"{release.version}{variant}.lua"

    def tcl_modulefile(self, release: Release, variant: str = "") -> Path:
        """Return the modulefile of a release for Environment Modules, or the link to it."""
        return self.modules_tcl / release.application / f"{release.version}{variant}"

    @property
    def categories(self) -> Path:
        """One module tree per category, all of links."""
        return self.path / "neurodesk-modules"

    def category_link(self, release: Release, category: str, variant: str = "") -> Path:
        """Return the link to a release's modulefile in one category's module tree."""
        directory = self.categories / category_directory(category) / release.application
        return directory / f"{release.version}{variant}.lua"


@dataclass(frozen=True)
class ReleaseDirectory:
    """The places of one release, deployed or being put together."""

    path: Path
    release: Release

    @property
    def image(self) -> Path:
        """The tree (a directory) or the SIF (a file)."""
        return self.path / object_key(self.release)

    @property
    def wrappers(self) -> Path:
        """The directory of wrappers, and of nothing else."""
        return self.path / "bin"

    @property
    def wrapper_body(self) -> Path:
        """What every wrapper of the release sources."""
        return self.path / "wrapper.sh"

    @property
    def record(self) -> Path:
        """The record: it alone means "deployed"."""
        return self.path / "record.json"

    @property
    def pending_record(self) -> Path:
        """The record of a deployment that has not ended yet."""
        return self.path / "record.pending.json"
