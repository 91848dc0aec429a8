"""Find a release's image in the first registry that has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neurocommand import registrysession
from neurocommand.errors import ImageError, RegistryBusyError, RegistryError
from neurocommand.layout import image_references
from neurocommand.model import ImageReference, Release
from neurocommand.settings import RegistrySettings

Resolve = Callable[[ImageReference], str | None]


@dataclass(frozen=True)
class Image:
    """A release's image: where it is, its bare hex digest, and who was to be asked before but did not answer."""

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
    """Ask one registry after the other; one that cannot tell is passed over, but not taken for a no.

    Args:
        release: whose image is wanted.
        registries: in the order of the configuration.
        resolve: image reference -> bare hex digest, None when it is certainly absent; raises RegistryError.

    Raises:
        ImageError: no registry has it.
        RegistryError: none of those that could tell has it.
        ValueError: a registry cannot hold an image of such a name.
    """
    unknown: list[str] = []
    passed_over: list[str] = []
    asked: list[str] = []
    ordered = in_order(registries)
    for registry in ordered:
        for reference in image_references(release, registry.url, registry.templates, insecure=registry.insecure):
            try:
                digest = resolve(reference)
            except RegistryError as error:
                unknown.append(f"{registry.name}: {error.message}")
                short = error.reason if isinstance(error, RegistryBusyError) else error.message
                passed_over.append(f"{registry.name}: {short}")
                break
            if digest is not None:
                return Image(registry, reference, digest, tuple(passed_over))
            asked.append(str(reference))
    if unknown:
        raise RegistryError(
            f"{release}: no registry has its image, but some cannot tell: {'; '.join(unknown)}",
            "check the network and `registries:`, then run it again",
        )
    if not asked:
        raise ImageError(f"{release}: no registry is configured to ask for its image", "name one in `registries:`")
    raise ImageError(f"{release}: no registry has its image (asked for {', '.join(asked)})", "build and push it first")
