"""apps.json: text to a manifest, every fault at once, each at its line.

Structure is the published schema's business (``apps.schema.json``); what a schema cannot say is checked here.
The format is Neurodesk's: an entry with an empty ``exec`` is a release, any other a launcher of one; an entry's
``version`` is the build date, the software's version is the last word of its label.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from neurocommand import jsontext, schema
from neurocommand.errors import Fault, FaultsError, bounded, printable
from neurocommand.jsontext import Document, Position
from neurocommand.manifest import EXTRA, Declaration, Group, Manifest, Retirement
from neurocommand.model import APPLICATION, About, Launcher, Notice, Release

SCHEMA = "apps.schema.json"
# after so many of them, what a text was meant to be is not known
ERRORS_LIMIT = 1000


def parse(text: str, filename: str, *, maintained: bool = True) -> Manifest:
    """Read a manifest.

    Args:
        text: the JSON text.
        filename: what faults are reported against.
        maintained: unknown keys are errors; in a manifest that we only follow they are warnings.

    Raises:
        FaultsError: at least one fault is an error; carries the warnings too.
    """
    document = jsontext.read(text, filename)
    reader = _Reader(document, filename, maintained, list(document.faults))
    reader.check_structure()
    groups = tuple(reader.groups())
    reader.check_twins(groups)
    reader.check_retirements(groups)
    reader.check_deprecations(groups)
    if any(not fault.warning for fault in reader.faults):
        raise FaultsError(filename, tuple(reader.faults))
    return Manifest(groups, bounded(reader.faults))


@dataclass
class _Reader:
    """One manifest being read; collects faults and leaves out what they make meaningless."""

    document: Document
    document_name: str
    maintained: bool
    faults: list[Fault]
    broken: set[Position] = field(default_factory=set)

    def fault(self, position: Position, message: str, *, warning: bool = False) -> None:
        self.faults.append(Fault(self.document.line(position), _where(position), message, warning))
        if not warning:
            self.broken.update(position[:length] for length in range(1, len(position) + 1))

    def check_structure(self) -> None:
        """Hold the text against the schema.

        Raises:
            FaultsError: so many errors that the rest is not looked at.
        """
        errors = 0
        for deviation in schema.deviations(self.document, SCHEMA):
            tolerated = deviation.unknown_key and not self.maintained
            self.fault(deviation.position, deviation.message, warning=tolerated)
            errors += not tolerated
            if errors == ERRORS_LIMIT:
                raise FaultsError(self.document_name, tuple(self.faults))

    # meaning: what a schema cannot say

    def groups(self) -> Iterator[Group]:
        if not isinstance(self.document.value, dict):
            return
        for name, body in self.document.value.items():
            # the schema judges what stands under a good name only
            if APPLICATION.fullmatch(name) and isinstance(body, dict) and isinstance(body.get("apps"), dict):
                yield self.group(name, body)

    def group(self, name: str, body: dict[str, Any]) -> Group:
        listed = body.get("categories")
        categories = tuple(c for c in listed if isinstance(c, str)) if isinstance(listed, list) else ()
        entries = {label: entry for label, entry in body["apps"].items() if (name, "apps", label) not in self.broken}
        declarations = tuple(
            declaration
            for label, entry in entries.items()
            if entry["exec"] == "" and (declaration := self.declaration(name, label, entry, body, categories))
        )
        launchers = tuple(
            launcher
            for label, entry in entries.items()
            if entry["exec"] and (launcher := self.launcher(name, label, entry, declarations))
        )
        retirements = tuple(self.retirements(name, body))
        if not body["apps"]:
            self.fault((name,), "the group is empty", warning=True)
        dois = tuple(self.dois(name, body))
        default = self.beyond(name, body).get("default", "")
        if default not in ("", "highest", "newest", *(d.release.version for d in declarations)):
            self.fault((name, EXTRA, "default"), f"{default} is no version of this group; or say highest or newest")
        return Group(name, categories, declarations, launchers, retirements, dois, default)

    def declaration(
        self, group: str, label: str, entry: dict[str, Any], body: dict[str, Any], categories: tuple[str, ...]
    ) -> Declaration | None:
        position = (group, "apps", label)
        application, version = label.rsplit(" ", 1)
        try:
            release = Release(application, version, entry["version"])
        except ValueError as error:
            self.fault(position, str(error))
            return None
        if not _is_date(entry["version"]):
            late = entry["version"] == "latest"
            self.fault((*position, "version"), f"build date {entry['version']!r} is no date", warning=late)
        if "-" in label and application != group:
            self.fault(position, f"a release by its empty exec, a launcher by its name (group {group})", warning=True)
        deprecated = self.beyond(group, body).get("deprecated", {})
        return Declaration(
            release,
            label,
            self.document.line(position),
            categories,
            _shown("show_in_menu", entry, body),
            _shown("show_in_applist", entry, body),
            tuple(entry.get("apptainer_args", ())),
            _about(self.beyond(group, body).get("about", {})),
            self.beyond(group, body).get("doi", {}).get(release.id, ""),
            _notice(deprecated[release.id]) if release.id in deprecated else None,
            tuple(sorted(self.beyond(group, body).get("expose", ()))),
        )

    def beyond(self, group: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return what people wrote beyond Neurodesk's format; nothing where that has faults."""
        written: dict[str, Any] = {} if (group, EXTRA) in self.broken else body.get(EXTRA, {})
        return written

    def launcher(
        self, group: str, label: str, entry: dict[str, Any], declarations: tuple[Declaration, ...]
    ) -> Launcher | None:
        position = (group, "apps", label)
        _, separator, rest = label.partition("-")
        if not separator:
            self.fault(position, 'a launcher is "<name>-<application> <version>"; a release has an empty exec')
            return None
        owner = next((d for d in declarations if d.label == rest), None)
        if owner is None:
            self.fault(position, f"a launcher of {rest!r}, which is no release of this group")
            return None
        if owner.release.build_date != entry["version"]:
            self.fault(
                (*position, "version"),
                f"build date {entry['version']} is not that of {owner.label} ({owner.release.build_date})",
            )
            return None
        return Launcher(label, owner.release, entry["exec"])

    def retirements(self, group: str, body: dict[str, Any]) -> Iterator[Retirement]:
        for release_id, entry in self.beyond(group, body).get("retired", {}).items():
            notice = _notice(entry)
            self.check_day((group, EXTRA, "retired", release_id, "since"), notice.since)
            yield Retirement(Release.parse(release_id), notice.reason, notice.successor, notice.since)

    def dois(self, group: str, body: dict[str, Any]) -> Iterator[tuple[Release, str]]:
        for release_id, doi in self.beyond(group, body).get("doi", {}).items():
            yield Release.parse(release_id), doi

    def check_day(self, position: Position, day: str) -> None:
        if day and not _is_date(day.replace("-", "")):
            self.fault(position, f"{day} is no date")

    def check_deprecations(self, groups: tuple[Group, ...]) -> None:
        """Hold what is deprecated against what its own group and the whole manifest declare."""
        live = {declaration.release for group in groups for declaration in group.declarations}
        own = {group.name: {declaration.release for declaration in group.declarations} for group in groups}
        for name, declared in own.items():
            for release_id, entry in self.beyond(name, self.document.value[name]).get("deprecated", {}).items():
                position = (name, EXTRA, "deprecated", release_id)
                release, notice = Release.parse(release_id), _notice(entry)
                self.check_day((*position, "since"), notice.since)
                if release not in declared:
                    self.fault(position, "not live in this group; what is withdrawn stands under `retired`")
                successor = notice.successor
                if successor == release:
                    self.fault((*position, "successor"), "the release itself")
                elif successor is not None and successor not in live:
                    self.fault((*position, "successor"), f"{successor} is not in this manifest", warning=True)

    def check_retirements(self, groups: tuple[Group, ...]) -> None:
        """Hold what is retired against what the whole manifest declares."""
        live = {declaration.release for group in groups for declaration in group.declarations}
        retired: dict[Release, Position] = {}
        for group in groups:
            for retirement in group.retirements:
                release, successor = retirement.release, retirement.successor
                position = (group.name, EXTRA, "retired", release.id)
                first = retired.setdefault(release, position)
                if release in live:
                    self.fault(position, "both live and retired")
                elif first != position:
                    self.fault(position, f"stands on line {self.document.line(first)} too, in group {first[0]}")
                if not _is_date(release.build_date):
                    late = release.build_date == "latest"
                    self.fault(position, f"build date {release.build_date!r} is no date", warning=late)
                if successor == release:
                    self.fault((*position, "successor"), "the release itself")
                elif successor is not None and successor not in live:
                    self.fault((*position, "successor"), f"{successor} is not in this manifest", warning=True)

    def check_twins(self, groups: tuple[Group, ...]) -> None:
        """Find groups, labels and releases that stand twice, or differ only in case."""
        if not isinstance(self.document.value, dict):
            return
        places: list[tuple[str, Position]] = []
        for name, body in self.document.value.items():
            apps = body.get("apps") if isinstance(body, dict) else None
            places += [(label, (name, "apps", label)) for label in apps] if isinstance(apps, dict) else []
        # a twin of both kinds is reported once
        twins = _twins([(d.release.id, (g.name, "apps", d.label)) for g in groups for d in g.declarations])
        for position, first in {**twins, **_twins(places)}.items():
            where = f", in group {first[0]}" if first[0] != position[0] else ""
            label = printable(str(first[-1]))
            self.fault(position, f"stands on line {self.document.line(first)} too, as {label}{where}")


def _twins(places: list[tuple[str, Position]]) -> dict[Position, Position]:
    """Return each place whose name, whatever its case, stands at an earlier place too, with that place."""
    seen: dict[str, Position] = {}
    firsts = {position: seen.setdefault(name.casefold(), position) for name, position in places}
    return {position: first for position, first in firsts.items() if first != position}


def _where(position: Position) -> str:
    """Name a position as a curator knows it: the label, or the group and what is in it."""
    if len(position) >= 3 and position[1] == "apps":
        return " ".join(str(part) for part in position[2:])
    return " ".join(str(part) for part in position)


def _notice(entry: dict[str, Any]) -> Notice:
    successor = entry.get("successor")
    return Notice(entry["reason"], Release.parse(successor) if successor else None, entry.get("since", ""))


def _about(entry: dict[str, Any]) -> About:
    texts = {name: entry.get(name, "") for name in ("description", "url", "licence", "citation")}
    return About(**texts, keywords=tuple(entry.get("keywords", ())))


def _shown(flag: str, entry: dict[str, Any], body: dict[str, Any]) -> bool:
    """Tell whether a flag shows: it hides only when it is exactly false, and an entry's overrides its group's."""
    return entry.get(flag, body.get(flag)) is not False


def _is_date(text: str) -> bool:
    try:
        datetime.date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return False
    return True
