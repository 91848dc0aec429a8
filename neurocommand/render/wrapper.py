"""The wrappers of a release: a POSIX shell script for each command, and what all of them source.

``bin/<command>`` is a few lines that find the release by their own path; ``wrapper.sh`` beside ``bin/`` is what they
do, ``warm.sh`` and ``holder.sh`` keep a container running between calls, ``udocker.sh`` serves a machine where
there is neither Apptainer nor Singularity (docs/design.md §10).
"""

from __future__ import annotations

from shlex import quote

from neurocommand.model import Format, Notice, Release
from neurocommand.render import templates
from neurocommand.render.runtimeoptions import Options
from neurocommand.settings import WrapperSettings

# How the wrapper tests that its image is there: the slash asks for a directory.
TESTS: dict[Format, str] = {"tree": '-x "$nc_image/"', "sif": '-r "$nc_image"'}

# A SIF is mounted through FUSE, where the runtime is not set-uid. Without it the runtime unpacks all of it, each time.
_FUSE = """if [ ! -c /dev/fuse ] && [ "$nc_uid" != 0 ] && is_plain; then
    # shellcheck disable=SC2016
    printf '%s: %s\\n' "$nc_command" \\
        '/dev/fuse is missing, so each call unpacks the image: ask for it, or install with --format tree' >&2
fi
"""


def tombstone(release: Release, notice: Notice) -> str:
    """Return the text of ``wrapper.sh`` of a withdrawn release: its commands say why, and exit with 69."""
    message = notice.after(f"{release} is withdrawn")
    return templates.fill(templates.TOMBSTONE, {"RELEASE": release.id, "MESSAGE": quote(message)})


def wrapper(release: Release, command: str) -> str:
    """Return the text of ``bin/<command>``.

    Args:
        release: the release.
        command: the program's name inside the image; safe as a file name (model.Inspection).
    """
    return templates.fill(templates.WRAPPER, {"RELEASE": release.id, "COMMAND": command})


def bodies(
    release: Release, image_format: Format, settings: WrapperSettings, options: Options, glibc: str
) -> dict[str, str]:
    """Return the texts that wrappers source, by file name.

    They find the image beside themselves, so they depend on no root.

    Args:
        release: the release.
        image_format: what the image is, a tree or a SIF.
        settings: what wrappers do.
        options: what the manifest asks of the runtime.
        glibc: the version of the image's C library, ``2.31``; empty where it has none that is known.
    """
    gpu = "auto" if options.gpu and settings.gpu == "off" else settings.gpu
    binds = (f"{bind.source} {bind.destination}{' ro' * bind.read_only}\n" for bind in settings.binds)
    values = {
        "RELEASE": release.id,
        "APPLICATION": release.application,
        "TEST": TESTS[image_format],
        "GPU": gpu,
        "WARM": "yes" if settings.warm else "no",
        "IDLE": str(settings.warm_idle),
        "PASS": quote(" ".join(settings.passed)),
        "BINDS": quote("".join(binds)),
        "GLIBC": glibc.removeprefix("2.") if glibc.startswith("2.") else "",
        "FUSE": _FUSE if image_format == "sif" else "",
        "OPTIONS": _options(options),
        "BORN": templates.BORN,
    }
    sources = {
        "wrapper.sh": templates.BODY,
        "warm.sh": templates.WARM,
        "holder.sh": templates.HOLDER,
        "udocker.sh": templates.UDOCKER,
    }
    return {name: templates.fill(source, values) for name, source in sources.items()}


def _options(options: Options) -> str:
    """Return the lines that put the manifest's own options before the image."""
    lines = []
    if options.words:
        words = " ".join(quote(word) for word in options.words)
        lines.append(f'set -- {words} "$@"')
        key = quote(" ".join(options.words))
        lines.append(f"nc_count=$((nc_count + {len(options.words)})) nc_key=$nc_key$nc_newline{key}")
    for word in options.words:
        name, _, value = word.partition("=")
        if name == "--bind":
            lines.append(f"are_bound {quote(value)}")
    if not options.shareable:
        lines.append("nc_odd=1")
    return "".join(f"{line}\n" for line in lines)
