"""What ``cvmfs_server`` says: the messages that CernVM-FS 2.12 was seen to print, and what each means."""

from __future__ import annotations

import pytest

from neurocommand.answers import Meaning, next_step, understand

X = "soft.example.org"
SAID: list[tuple[str, int, str, Meaning]] = [
    ("transaction", 0, "", "done"),
    ("transaction", 17, "CernVM-FS transaction error: another transaction is already open", "open"),
    ("transaction", 17, "repository busy, retrying\nrepository busy, retrying\n", "open"),
    ("transaction", 16, "Path busy. Time remaining = 1m59.7s\nCernVM-FS transaction error: lease path busy", "open"),
    ("transaction", 5, "cannot load whitelist [expired whitelist]", "expired"),
    (
        "transaction",
        1,
        f"{X} is in a transaction but /cvmfs/{X} is not mounted read/write\nRepository {X} is in a transaction and "
        "cannot be repaired.\n--> Run `cvmfs_server abort $name` to revert and repair.",
        "torn",
    ),
    ("transaction", 1, "Permission error: No write permission to repository", "forbidden"),
    (
        "transaction",
        1,
        f"CernVM-FS error: Unable to find the configuration file `server.conf` for the cvmfs publisher: {X}",
        "unknown",
    ),
    ("transaction", 1, "(unexpected termination) cannot establish writable mountpoint", "torn"),
    ("publish", 1, f"The repository {X} does not exist.", "unknown"),
    ("publish", 1, f"Repository {X} is not in a transaction", "closed"),
    ("publish", 1, f"Another publish process is active for {X}", "publishing"),
    ("publish", 1, f"Open writable file descriptors on {X}", "held"),
    ("publish", 1, f"Current working directory is in /cvmfs/{X}.  Please release, e.g. by 'cd $HOME'.", "held"),
    (
        "publish",
        1,
        f"WARNING! There are open read-only file descriptors in /cvmfs/{X}\n"
        "Do you want to proceed anyway? (y/N) aborted.",
        "held",
    ),
    ("publish", 1, f"Repository whitelist for {X} is expired!", "expired"),
    ("publish", 1, "Tag name 'v1' is already in use.", "failed"),
    ("publish", 1, "watchdog disappeared, aborting\nAborted\nSynchronization failed", "failed"),
    ("publish", 1, "block upload failed (code: 28)\nSynchronization failed", "full"),
    ("abort", 22, f"Repository {X} is not in a transaction", "closed"),
    ("abort", 22, f"Could not acquire lock /var/spool/cvmfs/{X}/is_publishing.lock", "publishing"),
    ("abort", 1, "(unexpected termination) cannot load whitelist [expired whitelist]\nstack trace", "expired"),
    ("abort", 134, "cvmfs_server: Assertion `success' failed.\nAborted", "spool full"),
    ("ingest", 1, "another transaction is already open\nImpossible to start a transaction", "open"),
    ("ingest", 1, "Impossible to open the archive: Unrecognized archive format", "failed"),
    ("ingest", 2, f".: cannot open /etc/cvmfs/repositories.d/{X}/server.conf: No such file", "unknown"),
    ("tag", 1, "Cannot change repository tags while in a transaction", "open"),
    ("tag", 1, f"Permission denied: Repository {X} is owned by root", "forbidden"),
    ("tag", 1, "failed to fetch repository manifest (8 - bad whitelist)", "expired"),
    ("rollback", 1, "Cannot rollback a repository in a transaction", "open"),
    ("gc", 1, "Cannot run garbage collection while in a transaction", "open"),
    ("gc", 1, "failed to upload updated Reflog\nFail (6)!", "full"),
    ("gc", 1, f"data corruption in .cvmfsreflog for {X}, run `cvmfs_server check -r` to fix", "corrupt"),
    (
        "mount",
        1,
        f"WARNING: The repository {X} is currently publishing and should not\nbe touched. If you are absolutely sure, "
        "that this is _not_ the case,\nplease run the following command and retry:\n   rm -fR SP/is_publishing.lock",
        "publishing",
    ),
    (
        "publish",
        1,
        'error reply: {"reason":"invalid lease","status":"error"}\ncould not submit payload. Aborting.',
        "lease",
    ),
]


@pytest.mark.parametrize(("command", "code", "output", "meaning"), SAID)
def test_each_message_is_understood(command: str, code: int, output: str, meaning: Meaning) -> None:
    found = understand(command, code, output)
    assert found.meaning == meaning
    assert next_step(found.meaning, X)


def test_the_noise_of_a_sound_run_is_not_shown() -> None:
    output = "sh: 1: lsusb: not found\nCernVM-FS: loading Fuse module... done\n...\nTag name 'v1' is already in use.\n"
    assert understand("publish", 1, output).said == "Tag name 'v1' is already in use."


def test_the_last_lines_are_shown() -> None:
    assert understand("publish", 1, "a\nb\nc\nd\n").said == "b; c; d"


def test_success_means_nothing_but_that_it_was_claimed() -> None:
    assert understand("ingest", 0, "No space left on device").meaning == "done"
