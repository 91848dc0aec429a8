"""The options that several verbs take; the session remembers what they say."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from neurocommand.commands import completing
from neurocommand.commands.session import Session
from neurocommand.errors import printable

F = TypeVar("F", bound=Callable[..., Any])


class _ReadableFile(click.Path):
    """A file that must be there; click says of whatever it cannot look at that it does not exist."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            os.stat(value)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            pass
        except OSError as error:
            self.fail(f"File {printable(os.fspath(value))!r}: {error.strerror}.", param, ctx)
        return super().convert(value, param, ctx)


def takes_manifest(command: F) -> F:
    """Give a verb the option ``--manifest``, which overrides the configuration."""

    def remember(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> None:
        if value is not None:
            ctx.meta[completing.MANIFEST] = value
            session = ctx.find_object(Session)
            # completion has none
            if session is not None:
                session.manifest_path = value

    option = click.option(
        "--manifest",
        type=_ReadableFile(path_type=Path, exists=True, dir_okay=False),
        expose_value=False,
        is_eager=True,
        callback=remember,
        help="The manifest to read instead of the configured one.",
    )
    return option(command)


def takes_apart(command: F) -> F:
    """Give a verb the option ``--apart``, which moves what a run keeps to a directory of its own."""

    def remember(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> None:
        session = ctx.find_object(Session)
        # completion has none
        if session is not None:
            session.apart = value

    option = click.option(
        "--apart",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        expose_value=False,
        callback=remember,
        help="Keep state, spool and lock of this run there, and deploy nothing: it shares the stores alone.",
    )
    return option(command)


takes_releases = click.argument(
    "releases", nargs=-1, metavar="[RELEASE]...", shell_complete=completing.complete_release
)


class ShardType(click.ParamType):  # type: ignore[type-arg]
    """``I/N``: the I-th of N machines that share the releases."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return I and N."""
        index, _, number = str(value).partition("/")
        if not (index.isdecimal() and number.isdecimal() and 1 <= int(index) <= int(number) <= 10_000):
            self.fail(f"{value!r} is no shard: write I/N with 1 <= I <= N", param, ctx)
        return int(index), int(number)


takes_shard = click.option(
    "--shard", type=ShardType(), help="Only the I-th of N parts of the manifest; a release is always in the same part."
)


class SizeType(click.ParamType):  # type: ignore[type-arg]
    """A size, as ``10G``."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes."""
        from neurocommand import sizes

        try:
            return sizes.bytes_of(str(value))
        except ValueError as error:
            self.fail(printable(str(error)), param, ctx)


class DurationType(click.ParamType):  # type: ignore[type-arg]
    """A duration, as ``5m``."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the seconds."""
        from neurocommand import durations

        try:
            return durations.seconds_of(str(value))
        except ValueError as error:
            self.fail(printable(str(error)), param, ctx)


takes_min_free = click.option(
    "--min-free", type=SizeType(), help="Refuse to begin where the spool's disk has less left, such as 10G."
)
takes_sources = click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="STORE",
    shell_complete=completing.complete_store,
    help="Download from this store only; may be given more than once.",
)
takes_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
takes_dry_run = click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
takes_prune = click.option("--prune", is_flag=True, help="Delete objects of releases that were unlisted long ago.")
takes_root = click.option(
    "--root", type=click.Path(path_type=Path, file_okay=False), help="Shared root instead of the configured."
)
