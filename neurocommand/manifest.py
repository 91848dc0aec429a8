"""The manifest as values: what is wanted, what is to be withdrawn, and what a name means in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from neurocommand.errors import Fault, UsageError, printable
from neurocommand.model import About, Launcher, Notice, Release

# the member of a group that is ours, beyond Neurodesk's format
EXTRA = "x-neurocommand"


@dataclass(frozen=True)
class Declaration:
    """A release as the manifest declares it, with what its group says."""

    release: Release
    label: str
    line: int
    categories: tuple[str, ...]
    show_in_menu: bool
    show_in_applist: bool
    apptainer_args: tuple[str, ...]
    about: About = field(default_factory=About)
    doi: str = ""
    deprecation: Notice | None = None
    expose: tuple[str, ...] = ()

    @property
    def revision(self) -> str:
        """Identity of what is rendered of the declaration beside release and categories: 8 hex digits.

        Empty where there is nothing.
        """
        told = (self.apptainer_args, self.about, self.doi, self.deprecation, self.expose)
        return "" if told == ((), About(), "", None, ()) else hashlib.sha256(repr(told).encode()).hexdigest()[:8]

    def revised(self, base: str) -> str:
        """Return the identity of what the release's wrappers and modulefile are made from.

        Args:
            base: that of what all wrappers and modulefiles under the root are made from.
        """
        return f"{base}-{self.revision}" if self.revision else base


@dataclass(frozen=True)
class Retirement:
    """A release that is to be withdrawn, why, since when, and what replaces it."""

    release: Release
    reason: str
    successor: Release | None
    since: str = ""

    @property
    def notice(self) -> Notice:
        """What its users are told."""
        return Notice(self.reason, self.successor, self.since)


@dataclass(frozen=True)
class Group:
    """A top-level key of the manifest; declarations and launchers in the order of the file.

    ``default`` is what its applications' default version is decided by: a version, ``highest``, ``newest``, or empty.
    """

    name: str
    categories: tuple[str, ...]
    declarations: tuple[Declaration, ...]
    launchers: tuple[Launcher, ...]
    retirements: tuple[Retirement, ...]
    dois: tuple[tuple[Release, str], ...] = ()
    default: str = ""


@dataclass(frozen=True)
class Manifest:
    """All groups, in the order of the file, and the warnings that reading gave."""

    groups: tuple[Group, ...]
    warnings: tuple[Fault, ...] = ()

    @property
    def declarations(self) -> tuple[Declaration, ...]:
        """Every declared release, in the order of the file."""
        return tuple(declaration for group in self.groups for declaration in group.declarations)

    @property
    def launchers(self) -> tuple[Launcher, ...]:
        """Every launcher, in the order of the file."""
        return tuple(launcher for group in self.groups for launcher in group.launchers)

    @property
    def retirements(self) -> tuple[Retirement, ...]:
        """Every release to withdraw."""
        return tuple(retirement for group in self.groups for retirement in group.retirements)

    @property
    def dois(self) -> dict[Release, str]:
        """The DOI of every release that has one, live or not."""
        return dict(pair for group in self.groups for pair in group.dois)

    @property
    def default_policies(self) -> dict[str, str]:
        """What the default version of each application is decided by, where its group says so."""
        return {
            d.release.application: group.default for group in self.groups if group.default for d in group.declarations
        }

    @property
    def defaults(self) -> Defaults:
        """What the default version of every application is decided by."""
        deprecated = frozenset(d.release for d in self.declarations if d.deprecation is not None)
        return Defaults(self.default_policies, deprecated)

    def choose(self, argument: str) -> Declaration:
        """Find the release that ``application``, ``application/version`` or a full id means.

        Without a version the default of the modules is meant.

        Raises:
            UsageError: no release, or one of several; lists the candidates.
        """
        application, _, version = argument.partition("/")
        known = self.declarations
        exact = [d for d in known if argument == d.release.id]
        if exact:
            return exact[0]
        found = [d for d in known if d.release.application == application and version in ("", d.release.version)]
        if found:
            default = self.defaults.among([d.release for d in found])
            return next(d for d in found if d.release == default)
        raise UsageError(f"{printable(argument)}: no such release in the manifest", _near(argument, known))

    def only(self, arguments: Iterable[str]) -> Manifest:
        """Return the manifest reduced to the releases that the arguments mean; all of it without arguments.

        Raises:
            UsageError: an argument means no release.
        """
        chosen = {self.choose(argument).release for argument in arguments}
        return self.reduced(chosen.__contains__) if chosen else self

    def reduced(self, wanted: Callable[[Release], bool]) -> Manifest:
        """Return the manifest with the wanted releases alone; what it retires is left out, too."""
        groups = (
            Group(
                group.name,
                group.categories,
                tuple(d for d in group.declarations if wanted(d.release)),
                tuple(launcher for launcher in group.launchers if wanted(launcher.release)),
                (),
                (),
                group.default,
            )
            for group in self.groups
        )
        return Manifest(tuple(group for group in groups if group.declarations), self.warnings)


@dataclass(frozen=True)
class Defaults:
    """What the default version of an application is decided by.

    Args:
        policies: of each application that has one: see ``Group.default``.
        deprecated: releases that are a default only where there is no other.
    """

    policies: Mapping[str, str] = field(default_factory=dict)
    deprecated: frozenset[Release] = frozenset()

    def among(self, releases: Iterable[Release]) -> Release:
        """Return the default of some releases of one application, at least one; they need not be in the manifest."""
        known = list(releases)
        policy = self.policies.get(known[0].application, "")
        return default_release([(release, release in self.deprecated) for release in known], policy)


def default_release(releases: Iterable[tuple[Release, bool]], policy: str) -> Release:
    """Return the release that an application's name alone means.

    What is deprecated is passed over, unless the policy names its version, or there is nothing else.

    Args:
        releases: the releases of one application that can be loaded, at least one, and whether each is deprecated.
        policy: a version; ``newest``, by build date; else the highest version.

    >>> two = [(Release("x", version, "20200101"), False) for version in ("2.0", "10.0")]
    >>> default_release(two, "").version
    '10.0'
    """
    known = list(releases)
    named = [release for release, _ in known if release.version == policy]
    chosen = named or [release for release, deprecated in known if not deprecated] or [release for release, _ in known]
    if policy == "newest" and not named:
        return max(chosen, key=lambda release: (release.build_date, release.precedence))
    return max(chosen, key=lambda release: release.precedence)


def _near(argument: str, known: tuple[Declaration, ...]) -> str:
    from difflib import get_close_matches

    application = argument.partition("/")[0]
    versions = [f"{d.release.application}/{d.release.version}" for d in known if d.release.application == application]
    names = versions or get_close_matches(application, sorted({d.release.application for d in known}))
    return f"did you mean {', '.join(names[:12])}?" if names else "see: neurocommand list"
