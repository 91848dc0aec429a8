"""The command line: one group, its verbs loaded when they are called, and the three ways in which a run ends badly."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import NoReturn

import click

from neurocommand import __version__
from neurocommand.commands import endings, interruption, journal, streams
from neurocommand.commands.session import Session
from neurocommand.errors import printable_lines

COMMANDS = {
    "bundle": "Carry releases to a site without internet.",
    "check": "Check a manifest: every fault, each at its line.",
    "client-config": "Print or install the configuration of clients of the CVMFS repository.",
    "completion": "Print the completion script of a shell.",
    "convert": "Convert images to SIF, and lock them.",
    "export": "Write the image of one release to a file that udocker, Docker and skopeo take.",
    "get": "Download the SIF of one release to a local file.",
    "install": "Install releases under a prefix of this host.",
    "list": "List the releases of the manifest.",
    "lock": "Unite what several machines locked.",
    "mirror": "Fill every writable store from any store that holds the locked bytes.",
    "plan": "Show what a sync would do, and why.",
    "publish": "Deploy releases from the stores to the shared root.",
    "rollback": "Publish again what a CVMFS repository held at an earlier tag.",
    "gc": "Remove objects of a CVMFS repository that no kept revision needs.",
    "remove": "Remove installed releases.",
    "repair": "Replace damaged and missing objects by the locked bytes.",
    "run": "Run a command of a deployed release.",
    "show": "Show what is known about one release.",
    "status": "Show which stores and roots hold which releases.",
    "sync": "Bring stores and shared root up to date with the manifest.",
    "upload": "Put converted SIFs into every store that lacks them.",
    "verify": "Hold every object of every store against the lock.",
    "which": "Show which deployed releases give a command.",
}


class Verbs(click.Group):
    """A group that imports a verb's module only when the verb is used, so that every command starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all verbs."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one verb."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"neurocommand.commands.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", message="neurocommand %(version)s")
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="Configuration file.")
@click.option("-v", "--verbose", is_flag=True, help="Show the tools' own messages too.")
@click.option("-q", "--quiet", is_flag=True, help="Show errors only.")
@click.option("--log-file", type=click.Path(path_type=Path), help="Append all messages to a file.")
@click.pass_context
def cli(ctx: click.Context, config_path: Path | None, verbose: bool, quiet: bool, log_file: Path | None) -> None:
    """From apps.json, which declares container releases, to commands that simply work.

    \b
    Examples:
      neurocommand install niimath        then: module use …/modules; ml niimath
      neurocommand check apps.json        what a curator runs
      neurocommand sync --dry-run         what tonight's run would do
    """
    if log_file is not None:
        journal.begin(log_file)
    ctx.obj = Session(config_path, verbose=verbose, quiet=quiet)


def main() -> NoReturn:
    """Run the command line and end the process with a documented exit code (docs/design.md §6)."""
    streams.prepare()
    interruption.prepare(_say_interrupted)
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        journal.record(f"error: {printable_lines(error.format_message())}")
        code = 2
    except (KeyboardInterrupt, click.Abort):
        interruption.leave(_say_interrupted)
    except Exception as error:
        code = endings.tell(error, as_json=_wants_json(sys.argv[1:]))
    streams.flush()
    sys.exit(code if isinstance(code, int) else 0)


def _wants_json(words: list[str]) -> bool:
    """Tell whether a command line asks for JSON; what `run` is given belongs to another program."""
    verb = next((word for word in words if word in COMMANDS), "")
    return verb != "run" and "--json" in words


def _say_interrupted() -> None:
    as_json = _wants_json(sys.argv[1:])
    endings.report("interrupted", "run the same command again to continue", interruption.CODE, as_json=as_json)
    streams.flush()
