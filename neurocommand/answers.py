"""What ``cvmfs_server`` said, and what that means: its exit codes alone tell little (CernVM-FS 2.12, measured)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Meaning = Literal[
    "done",
    "open",
    "publishing",
    "expired",
    "full",
    "spool full",
    "torn",
    "closed",
    "held",
    "corrupt",
    "lease",
    "forbidden",
    "unknown",
    "failed",
]

# in the order in which they are looked for: what is told beside something else comes first
_SIGNS: tuple[tuple[Meaning, str], ...] = (
    ("expired", r"expired whitelist|whitelist for \S+ is expired|8 - bad whitelist"),
    ("publishing", r"is currently publishing|Another publish process is active|Could not acquire lock"),
    ("closed", r"is not in a transaction"),
    ("open", r"another transaction is already open|lease path busy|in a transaction$"),
    ("spool full", r"Assertion `success' failed"),
    ("full", r"\(code: 28\)|No space left on device|failed to upload updated Reflog"),
    ("corrupt", r"data corruption in \.cvmfsreflog|reflog missing"),
    ("lease", r"\"invalid lease\"|could not submit payload"),
    ("torn", r"not mounted properly|not mounted read/write|cannot be repaired|cannot establish writable mountpoint"),
    ("held", r"Current working directory is in|[Oo]pen (writable|read-only) file descriptors"),
    ("forbidden", r"Permission denied|No write permission|is owned by"),
    ("unknown", r"Unable to find the configuration file|cannot open \S+/server\.conf|repository \S+ does not exist"),
)
_CODES: dict[tuple[str, int], Meaning] = {
    ("transaction", 17): "open",
    ("transaction", 16): "open",
    ("transaction", 5): "expired",
    ("abort", 134): "spool full",
}
# what a sound run says as well
_NOISE = re.compile(
    r"-q: not found|lsusb: not found|eval: \[\[: not found|running with suid support|loading Fuse module"
    r"|mounted cvmfs on |maximum number \d|cannot apply pathspec|gets defragmented|^\.*$|^Executed Command:"
    r"|^cvmfs_swissknife "
)
_LAST = 3  # lines of what it said that people are shown


@dataclass(frozen=True)
class Answer:
    """What a call of ``cvmfs_server`` came to.

    Args:
        meaning: in a word.
        said: the last lines that tell something, for people.
    """

    meaning: Meaning
    said: str = ""


def understand(command: str, code: int, output: str) -> Answer:
    """Return what an exit code and an output mean.

    Args:
        command: of ``cvmfs_server``, as ``publish``.
        code: its exit code.
        output: all that it said, on both streams.
    """
    lines = [line.strip() for line in output.splitlines()]
    telling = [line for line in lines if not _NOISE.search(line)]
    said = "; ".join(telling[-_LAST:])
    if code == 0:
        return Answer("done", said)
    text = "\n".join(telling)
    for meaning, sign in _SIGNS:
        if re.search(sign, text, re.MULTILINE):
            return Answer(meaning, said)
    return Answer(_CODES.get((command, code), "failed"), said)


def next_step(meaning: Meaning, repository: str) -> str:
    """Return what people should do about an answer, with the command where there is one."""
    commands: dict[Meaning, str] = {
        "open": "wait until whoever opened it has published, or ask them, then run again; "
        f"to discard what it holds: cvmfs_server abort {repository}",
        "publishing": "wait until it has ended, then run again",
        "expired": f"run: cvmfs_server resign -d 30 {repository}   (needs the master key), then run again",
        "full": "free space in the repository's storage, then run again; do not collect garbage before that",
        "spool full": "free space in the spool, then run again",
        "torn": f"run: cvmfs_server mount {repository}   then run again",
        "closed": "run again",
        "held": "end what uses the repository's directory on this machine, then run again",
        "corrupt": f"free space, then run: cvmfs_server check -r {repository}",
        "lease": "give the gateway a longer max_lease_time, then run again",
        "forbidden": "run as the repository's owner (CVMFS_USER in server.conf)",
        "unknown": "see: cvmfs_server list",
    }
    return commands.get(meaning, f"see: cvmfs_server check -c {repository}")
