"""Find a release's image in the first registry that has it and gives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from neurocommand import registrysession
from neurocommand.errors import ImageError, RegistryBusyError, RegistryError
from neurocommand.layout import image_references
from neurocommand.model import ImageReference, Release
from neurocommand.settings import RegistrySettings

Resolve = Callable[[ImageReference], str | None]
Used = TypeVar("Used")


@dataclass(frozen=True)
class Image:
    """A release's image: where it is, its bare hex digest, and who did not answer or give it since the one before."""

    registry: RegistrySettings
    reference: ImageReference
    digest: str
    passed_over: tuple[str, ...] = ()


def in_order(registries: Sequence[RegistrySettings]) -> tuple[RegistrySettings, ...]:
    """Return registries in the order in which they are asked: the configured one, but Docker Hub last.

    It allows so few requests that it is asked only for what no other registry has.
    """
    return tuple(sorted(registries, key=lambda entry: registrysession.is_hub(entry.url.partition("/")[0])))


def find(release: Release, registries: Sequence[RegistrySettings], resolve: Resolve) -> Image:
    """Return a release's image in the first registry that has it; see ``take``."""
    return take(release, registries, resolve, lambda image: image)


def take(
    release: Release, registries: Sequence[RegistrySettings], resolve: Resolve, use: Callable[[Image], Used]
) -> Used:
    """Use a release's image from the first registry that has it and gives it.

    One that cannot tell, or does not give what it has, is passed over, but not taken for a no.

    Args:
        release: whose image is wanted.
        registries: in the order of the configuration.
        resolve: image reference -> bare hex digest, None when it is certainly absent; raises RegistryError.
        use: called with the image of one registry after the other, for as long as it raises RegistryError.

    Returns:
        What ``use`` returned.

    Raises:
        ImageError: no registry has it, or a registry cannot hold an image of such a name.
        RegistryError: none of those that have it gives it, or none of those that could tell has it.
    """
    failures: list[tuple[str, RegistryError]] = []
    passed_over: list[str] = []
    asked: list[str] = []
    found = False
    for registry in in_order(registries):
        try:
            image = _image(release, registry, resolve, asked)
            if image is not None:
                found, image = True, replace(image, passed_over=tuple(passed_over))
                passed_over.clear()
                return use(image)
        except RegistryError as error:
            failures.append((registry.name, error))
            short = error.reason if isinstance(error, RegistryBusyError) else error.message
            passed_over.append(f"{registry.name}: {short}")
    if failures:
        raise _refusal(release, failures, found=found)
    if not asked:
        raise ImageError(f"{release}: no registry is configured to ask for its image", "name one in `registries:`")
    raise ImageError(f"{release}: no registry has its image (asked for {', '.join(asked)})", "build and push it first")


def _image(release: Release, registry: RegistrySettings, resolve: Resolve, asked: list[str]) -> Image | None:
    """Ask one registry for every name that the image may have there; ``asked`` collects those that it has not."""
    try:
        for reference in image_references(release, registry.url, registry.templates, insecure=registry.insecure):
            digest = resolve(reference)
            if digest is not None:
                return Image(registry, reference, digest)
            asked.append(str(reference))
    except ValueError as error:
        raise ImageError(f"{release}: {error}", "a registry cannot hold an image of this name") from error
    return None


def _refusal(release: Release, failures: Sequence[tuple[str, RegistryError]], *, found: bool) -> RegistryError:
    reasons = "; ".join(f"{name}: {error.message}" for name, error in failures)
    what = "no registry gives its image" if found else "no registry has its image, but some cannot tell"
    hints = {error.hint for _, error in failures} - {""}
    general = "check the network and `registries:`, then run it again"
    return RegistryError(f"{release}: {what}: {reasons}", hints.pop() if len(hints) == 1 else general)
