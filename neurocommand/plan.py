"""Pure: wanted x locked x observed -> a plan of actions and problems, each with its reason (docs/design.md §5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from neurocommand.actions import (
    Action,
    Adopt,
    Convert,
    Copy,
    Delete,
    Deploy,
    Kind,
    Plan,
    Problem,
    Rewrap,
    Upload,
)
from neurocommand.leftover import MISLED, leftover, renewing_of
from neurocommand.lock import Lock
from neurocommand.manifest import Declaration, Manifest
from neurocommand.model import Artifact, DeployRecord, Release, StoredObject
from neurocommand.observation import (
    Deployed,
    Deployment,
    Foreign,
    HalfDeployed,
    Observation,
    RootView,
    StoreView,
    Unknown,
    Unreadable,
)
from neurocommand.retention import Kept, Retention, judge


def make(
    manifest: Manifest,
    lock: Lock,
    observation: Observation,
    *,
    whole: bool = True,
    quorum: int | None = None,
    retention: Retention | None = None,
) -> Plan:
    """Compare what is wanted, locked and observed.

    Args:
        manifest: what is wanted.
        lock: the identity of every known release.
        observation: what stores and the root hold.
        whole: the manifest is all that is wanted, so that what it does not name can be judged.
        quorum: how many writable stores make a release live; without one, all of them.
        retention: what deletions are judged by; without it nothing is deleted.
    """
    actions: list[Action] = []
    problems: list[Problem] = []
    spare: dict[Release, int] = {}
    renewing = renewing_of(manifest, observation.root)
    for declaration in manifest.declarations:
        release = declaration.release
        decided = _Decision(release, lock.get(release), observation, declaration, renews=release in renewing)
        decided.decide()
        if quorum is not None:
            spare[release] = decided.spare(quorum)
        actions += decided.actions
        problems += decided.problems
    # where every release is live without it, a store that is down gets what it lacks from a later run
    fatal = quorum is None or any(problem.kind == "below" for problem in problems)
    down = [
        Problem("unknown", view.name, f"cannot be asked: {view.fault}", fatal=fatal)
        for view in observation.stores
        if view.fault
    ]
    kept: tuple[Kept, ...] = ()
    if observation.root is not None and whole:
        withdrawn, unlisted = leftover(manifest, observation.root)
        actions += withdrawn
        problems += unlisted
    if retention is not None and whole:
        deletions, kept = _unlisted(manifest, observation, retention)
        actions += deletions
    return Plan(tuple(actions), (*down, *problems), kept, spare)


class _Decision:
    """What to do about one release."""

    def __init__(
        self,
        release: Release,
        artifact: Artifact | None,
        observation: Observation,
        declaration: Declaration | None = None,
        *,
        renews: bool = False,
    ) -> None:
        self.release = release
        self.renews = renews
        self.declaration = declaration
        self.artifact = artifact
        self.observation = observation
        self.held: dict[str, StoredObject] = {}
        self.unknown: dict[str, str] = {}
        for view in observation.stores:
            match view.ask(self.release):
                case StoredObject() as found:
                    self.held[view.name] = found
                case Unknown(reason):
                    self.unknown[view.name] = reason
        self.actions: list[Action] = []
        self.problems: list[Problem] = []

    def problem(self, kind: Kind, reason: str) -> None:
        self.problems.append(Problem(kind, self.release.id, reason))

    def told(self) -> str:
        return _told(self.unknown, self.observation.stores)

    def decide(self) -> None:
        available = self.known() if self.artifact is not None else self.new()
        if self.observation.root is not None:
            self.deploy(self.observation.root, available=available)

    def new(self) -> bool:
        """Give a release that is not locked an identity; tell whether it will have one."""
        deployed = self.deployed()
        if isinstance(deployed, Unreadable):
            return False  # the root's own problem; what is deployed there may be this release
        if self.held:
            return self.adopt()
        if self.unknown:
            self.problem("unknown", f"not locked, and it may exist in {self.told()}, which cannot tell")
            return False
        if isinstance(deployed, Deployed):
            self.problem("lost", f"deployed with sha256 {deployed.record.sha256}, but neither locked nor in any store")
            return False
        self.actions.append(Convert(self.release, "not locked, and in no store"))
        for view in self.writable():
            self.actions.append(Upload(self.release, view.name, "absent"))
        return True

    def adopt(self) -> bool:
        # a store that states a digest binds the one that is adopted; the others are held against it
        source = next((name for name, found in self.held.items() if found.sha256), next(iter(self.held)))
        adopted = self.held[source]
        differing = [
            name
            for name, found in self.held.items()
            if found.size != adopted.size or found.sha256 not in (None, adopted.sha256)
        ]
        if differing:
            sizes = ", ".join(f"{name} ({self.held[name].size} bytes)" for name in (source, *differing))
            self.problem("conflict", f"not locked, and stores hold different bytes: {sizes}")
            return False
        deployed = self.deployed()
        expected = Artifact(deployed.record.sha256, deployed.record.size) if isinstance(deployed, Deployed) else None
        if expected is not None and not adopted.agrees(expected):
            self.problem("conflict", f"not locked, and store {source} holds other bytes than those that are deployed")
            return False
        self.actions.append(Adopt(self.release, source, expected, f"not locked, but store {source} holds it"))
        good = tuple(self.held)
        self.fill(self.kept(good), good)
        self.artifact = expected
        return True

    def known(self) -> bool:
        """Bring a locked release to every writable store; tell whether its bytes can be had."""
        assert self.artifact is not None  # noqa: S101
        good = tuple(name for name, found in self.held.items() if found.agrees(self.artifact))
        spooled = self.observation.spool.get(self.release)
        if spooled == self.artifact.size:
            # the spool's bytes are used where they are the locked ones, which only reading them tells
            trusted = self.trusted(good)
            self.fill(trusted, trusted)
            return True
        if good:
            self.fill(self.kept(good), good)
            return True
        if spooled is not None:
            self.problem("changed", f"the spool's SIF has {spooled} bytes, the locked one {self.artifact.size}")
        elif self.unknown:
            self.problem("unknown", f"locked, and it may be lost: {self.told()} cannot tell")
        else:
            damaged = f" (damaged in {', '.join(self.held)})" if self.held else ""
            self.problem("lost", f"locked, but good in no store{damaged}; a known release is never built again")
        return False

    def spare(self, quorum: int) -> int:
        """Return how many stores may fail to take the release; report it when it stays below the quorum anyway."""
        taking = {action.store for action in self.actions if isinstance(action, Upload | Copy)}
        writable = {view.name for view in self.observation.stores if view.writable}
        identity = self.artifact
        holding = {name for name in self.held if identity is None or self.held[name].agrees(identity)} & writable
        if not self.problems and len(holding | taking) < quorum:
            self.problem("below", f"{len(holding | taking)} stores hold or can take it, the quorum is {quorum}")
        return max(0, len(holding | taking) - quorum)

    def trusted(self, good: tuple[str, ...]) -> tuple[str, ...]:
        """Return the stores whose object need not be sent again: it states the digest, or was not asked for it."""
        listed = {view.name for view in self.observation.stores if not view.digests}
        return tuple(name for name in good if self.held[name].sha256 or name in listed)

    def kept(self, good: tuple[str, ...]) -> tuple[str, ...]:
        """Return the stores that need nothing; an object that states no digest is enough where it is all there is."""
        verified = any(self.held[name].sha256 for name in good)
        lacking = any(view.name not in good and view.name not in self.unknown for view in self.writable())
        return self.trusted(good) if verified or lacking else good

    def fill(self, kept: tuple[str, ...], sources: tuple[str, ...] = ()) -> None:
        """Bring the bytes to every other writable store: from sources, and without one from the spool."""
        for view in self.writable():
            if view.name in kept or view.name in self.unknown:
                continue
            if sources:
                self.actions.append(Copy(self.release, sources, view.name, self.lack(view.name)))
            else:
                self.actions.append(Upload(self.release, view.name, self.lack(view.name)))

    def lack(self, store: str) -> str:
        """Say what is wrong with a store's object."""
        found = self.held.get(store)
        if found is None:
            return "absent"
        if self.artifact is None or found.agrees(self.artifact):
            return "states no digest"
        if found.size != self.artifact.size:
            return f"{found.size} bytes instead of the locked {self.artifact.size}"
        return f"sha256 {found.sha256} instead of the locked {self.artifact.sha256}"

    def writable(self) -> Iterator[StoreView]:
        return (view for view in self.observation.stores if view.writable)

    def deployed(self) -> Deployment | None:
        root = self.observation.root
        return root.deployments.get(self.release) if root is not None else None

    def deploy(self, root: RootView, *, available: bool) -> None:
        reason = self.lacking(root)
        match self.deployed():
            case Foreign():
                self.problem(
                    "foreign", "its place under the root is taken by something that neurocommand did not deploy"
                )
            case Unreadable(why):
                self.problem("unknown", f"what is deployed cannot be told: {why}")
            case _ if reason and available:
                self.actions.append(Deploy(self.release, reason))
            case Deployed(record, complete) if not reason and self.declaration is not None:
                if not complete:
                    self.actions.append(Rewrap(self.release, "its modulefile or a link is missing"))
                elif record.wrapper_revision != self.declaration.revised(root.wrapper_revision):
                    self.actions.append(Rewrap(self.release, "made by other templates, settings or entries"))
                elif set(record.categories) != set(self.declaration.categories):
                    self.actions.append(Rewrap(self.release, "its categories changed"))
                elif self.renews:
                    self.actions.append(Rewrap(self.release, MISLED))

    def lacking(self, root: RootView) -> str:
        """Say why a release has to be deployed; empty when what is deployed is right."""
        found = self.deployed()
        if found is None:
            return "not deployed"
        if isinstance(found, HalfDeployed):
            return found.reason
        return self.outdated(found.record, root) if isinstance(found, Deployed) else ""

    def outdated(self, record: DeployRecord, root: RootView) -> str:
        """Say why what is deployed is not what is wanted; empty when it is."""
        if record.withdrawn:
            return "withdrawn, but the manifest has it again"
        if self.artifact is not None and record.sha256 != self.artifact.sha256:
            return "deployed from other bytes than the locked ones"
        if root.format not in (None, record.format):
            return f"deployed as {record.format} instead of {root.format}"
        return ""


def for_prefix(manifest: Manifest, lock: Lock, root: RootView) -> Plan:
    """Plan what an install has to do under a prefix; where its bytes come from is found out when they are fetched.

    Args:
        manifest: the releases to install.
        lock: the identity of every known release, the prefix's own lock included.
        root: what stands under the prefix.
    """
    actions: list[Action] = []
    problems: list[Problem] = []
    renewing = renewing_of(manifest, root)
    for declaration in manifest.declarations:
        release = declaration.release
        known = lock.get(release)
        decided = _Decision(release, known, Observation((), root=root), declaration, renews=release in renewing)
        decided.deploy(root, available=True)
        actions += decided.actions
        problems += decided.problems
    return Plan(tuple(actions), tuple(problems))


def mended(manifest: Manifest, lock: Lock, observation: Observation) -> Plan:
    """Plan what mends the objects of releases that are locked, but that the manifest does not name.

    As ``verification`` judges them: an object counts where there is one, and no store has to hold one.

    Args:
        manifest: the releases that are left to ``make``.
        lock: the identity of every known release.
        observation: what stores and the spool hold.
    """
    actions: list[Action] = []
    problems: list[Problem] = []
    for release in sorted(lock.artifacts.keys() - {declaration.release for declaration in manifest.declarations}):
        if not any(release in view.objects or release in view.unknown for view in observation.stores):
            continue
        concerned = tuple(view for view in observation.stores if view.ask(release) is not None)
        decided = _Decision(release, lock.get(release), Observation(concerned, observation.spool))
        decided.known()
        actions += decided.actions
        problems += decided.problems
    return Plan(tuple(actions), tuple(problems))


def _told(unknown: Mapping[str, str], views: Iterable[StoreView]) -> str:
    """Say which stores cannot tell, and why unless the whole store is a problem of its own."""
    faulty = {view.name for view in views if view.fault}
    return ", ".join(name if name in faulty else f"{name} ({reason})" for name, reason in unknown.items())


def _unlisted(
    manifest: Manifest, observation: Observation, retention: Retention
) -> tuple[list[Action], tuple[Kept, ...]]:
    """Judge what stores hold of releases that the manifest does not name."""
    held = {release for view in observation.stores for release in view.objects}
    deployed = observation.root.standing if observation.root is not None else ()
    deletions: list[Action] = []
    kept: list[Kept] = []
    for judged in judge(manifest, retention, deployed, held):
        if isinstance(judged, Kept):
            kept.append(judged)
            continue
        deletions += [
            Delete(judged.release, view.name, judged.reason)
            for view in observation.stores
            if view.name in retention.stores and view.listed and judged.release in view.objects
        ]
    return deletions, tuple(kept)
