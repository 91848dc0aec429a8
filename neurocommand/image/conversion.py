"""An image in a registry -> a SIF, as `apptainer build` makes it, but without unpacking it (docs/adr/0007)."""

from __future__ import annotations

import contextlib
import os
import platform
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from neurocommand.errors import ImageError
from neurocommand.files import remove_tree
from neurocommand.image import architecture, archive, blobs, container, members, oci, owners, skeleton, squashfs
from neurocommand.image.blobs import Source
from neurocommand.image.header import locate
from neurocommand.image.layers import FileSystem, Member
from neurocommand.image.oci import Descriptor, ImageManifest, NeedsApptainerError
from neurocommand.image.skeleton import Skeleton
from neurocommand.settings import Compression, Credentials

LARGEST_CONFIGURATION = 16 << 20
MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}  # uname -m -> Go's name
INODES = struct.Struct("<4sI")  # the start of a squashfs


@dataclass(frozen=True)
class Image:
    """One image, in a registry or in a file.

    Args:
        reference: ``registry/repository@sha256:…``; the SIF keeps it.
        sha256: bare hex digest by which the source gives its manifest or index.
        insecure: its registry is spoken to by plain http.
        source: gives its documents and blobs.
        transport: what Apptainer calls the way to it; the SIF keeps it as well.
        address: what Apptainer builds it from, with the transport.
        credentials: what Apptainer logs in with where the work is left to it; None: those of ``docker login``.
    """

    reference: str
    sha256: str
    insecure: bool
    source: Source
    transport: str = "docker"
    address: str = ""
    credentials: Credentials | None = None


Reserved = Callable[[Path, int, str], AbstractContextManager[None]]


def _free(path: Path, need: int, what: str) -> AbstractContextManager[None]:
    return contextlib.nullcontext()


def convert(
    image: Image,
    path: Path,
    *,
    compression: Compression,
    scratch: Path,
    report: Callable[[str], None],
    reserved: Reserved = _free,
) -> None:
    """Make a SIF from an image, the same as Apptainer's own but for its compression.

    Args:
        image: what to convert.
        path: the SIF to make; must not exist.
        compression: of its file system.
        scratch: a directory for temporary files, about five times the size of the image's blobs.
        report: called with a line for people when the work is left to Apptainer, and with what Apptainer says then.
        reserved: keeps bytes of a directory's file system free for a block, for what else goes on at the time.

    Raises:
        ImageError: the image is damaged, or a tool is missing or failed; nothing is left at ``path``.
        RegistryError: the registry does not give the image.
        RefusedError: there is not enough space.
    """
    if path.is_symlink() or path.exists():
        raise ImageError(f"{path}: exists already; a conversion never replaces a file")
    work = scratch / "conversion"
    remove_tree(work)
    work.mkdir(parents=True)
    try:
        manifest = _manifest(image)
        blobs.check_space(manifest.layers, work, image.reference)
        with reserved(work, blobs.needed(manifest.layers), image.reference):
            _convert(image, manifest, path, compression, work)
        return
    except NeedsApptainerError as error:
        remove_tree(path)
        report(f"left to apptainer build, which takes longer and compresses with gzip: {error.message}")
    except BaseException:
        remove_tree(path)
        raise
    finally:
        remove_tree(work)
    from neurocommand.image import sif  # slow to load, and rarely needed

    sif.convert(
        image.address or f"docker://{image.reference}",
        path,
        insecure=image.insecure,
        scratch=scratch,
        report=report,
        credentials=image.credentials,
    )


def _convert(image: Image, manifest: ImageManifest, path: Path, compression: Compression, work: Path) -> None:
    with ThreadPoolExecutor(1) as helper, _set_at_end() as ended:
        asked = helper.submit(_skeleton, image, manifest, work / "skeleton", ended)
        read: dict[Path, list[Member]] = {}
        numbers = {layer.sha256: number for number, layer in enumerate(manifest.layers)}

        def ready(file: Path, where: str) -> None:
            read[file] = list(members.read(file, numbers[file.name], where))

        files = blobs.fetch(image.source, manifest.layers, work, image.reference, ready)
        bones = asked.result()
    made = _merged(image, files, read, bones)
    owners.settle(made, owners.powers(work))
    with contextlib.ExitStack() as stack:
        layers = [stack.enter_context(open(file, "rb")).fileno() for file in [*files, bones.layer]]
        processor = architecture.of(made, layers)
        skeleton.lay_over(made, bones)
        start = container.start_of_file_system(bones.sif)
        root = squashfs.Root(made.root.mode, made.root.mtime)
        squashfs.create(path, start, root, compression, lambda target: archive.write(made, layers, target))
    container.finish(path, bones.sif, processor)
    _check(path, made)


@contextlib.contextmanager
def _set_at_end() -> Iterator[threading.Event]:
    ended = threading.Event()
    try:
        yield ended
    finally:
        ended.set()


def _manifest(image: Image) -> ImageManifest:
    native = MACHINES.get(platform.machine(), platform.machine())

    def read(sha256: str) -> ImageManifest | Descriptor:
        text = blobs.patiently(lambda: image.source.manifest(sha256), threading.Event())
        return oci.parse(text, image.reference, native)

    found = read(image.sha256)
    if not isinstance(found, ImageManifest):
        found = read(found.sha256)
    if not isinstance(found, ImageManifest):
        raise NeedsApptainerError("an index of indexes")
    return found


def _skeleton(image: Image, manifest: ImageManifest, directory: Path, ended: threading.Event) -> Skeleton:
    where = f"{image.reference}: configuration"
    configuration = blobs.whole(image.source, manifest.configuration, LARGEST_CONFIGURATION, where, ended)
    return skeleton.make(configuration, (image.transport, image.reference), directory, len(manifest.layers))


def _merged(image: Image, files: list[Path], read: dict[Path, list[Member]], bones: Skeleton) -> FileSystem:
    made = FileSystem(int(time.time()))
    made.root.mode = bones.files.root.mode
    for number, file in enumerate(files):
        where = f"{image.reference}: layer {number + 1} (sha256:{file.name[:12]})"
        # a layer that comes twice makes other inodes each time
        made.apply(read.pop(file) if file in read else members.read(file, number, where), where)
    reason = skeleton.unlike(made)
    if reason is not None:
        raise NeedsApptainerError(reason)
    return made


def _check(path: Path, made: FileSystem) -> None:
    """See that the SIF is sound and holds as many files as were to be written."""
    partition = locate(path)
    with open(path, "rb") as stream:
        _, inodes = INODES.unpack(os.pread(stream.fileno(), INODES.size, partition.offset))
    wanted = archive.inodes(made)
    if inodes != wanted:
        raise ImageError(f"{path}: has {inodes} files instead of {wanted}", "report this, with the image")
