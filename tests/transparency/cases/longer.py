"""Which behaviours wait for --full: each stands beside one of its kind that always runs."""

from __future__ import annotations

NAMES = frozenset(
    f"{about}-{name}"
    for about, names in {
        "arguments": (
            "many-empty ten-thousand-empty just-below-the-longest a-thousand-quotes an-option-of-the-tools-own"
        ),
        "environment": "passed-asked-for-and-absent kept-out-cdpath",
        "streams": (
            "input-of-no-bytes a-last-line-without-its-end a-broken-pipe a-here-document read-and-write-on-one-file "
            "command-substitution process-substitution one-offset-for-caller-and-tool in-a-loop-over-input into-a-file"
        ),
        "exits": "in-a-condition under-set-e modulo-256 with-the-last-commands-code true by-INT by-ABRT and-or",
        "signals": "SIGUSR2-is-handled SIGWINCH-is-handled",
        "directories": (
            "home-newline home-colon home-dash proc dev-shm usr home-deep read-only a-linked-PWD-that-is-right "
            "the-caller-moves-on outside-trailing-newline"
        ),
        "tmpdir": "home-plain home-newline home-double-quote a-dot with-options-in-it the-root outside-dollar",
        "xauthority": "absent blank-and-comma",
        "identity": "uptime-s-boot processors login-session memory host-name home-in-the-user-list",
        "inherited": "limit-file-size umask-022 limit-open-files",
        "descriptors": "with-gaps no-reader-waits-for-the-background",
        "sharing": (
            "var-tmp dev-shm what-the-caller-wrote-before a-lock-by-descriptor a-settings-file-in-home renames times "
            "a-server-of-its-own files-that-the-caller-may-not-read links what-the-tool-wrote-is-there-at-once"
        ),
        "terminal": "is-12 is-02 is-1 erased name state",
        "callers": (
            "xargs-and-a-failure find-execdir python-text-in python-terminate python-os-system python-code "
            "python-directory stdbuf a-login-shell perl awk coproc nice setsid timeout-that-is-not-reached "
            "user-time-is-counted from-itself a-loop named-through-links-to-links named-by-a-path-with-dots "
            "named-while-its-directory-is-the-caller-s named-as-a-script-found-in-the-directory "
            "named-by-a-relative-path-from-below named-by-the-loader-of-scripts "
            "named-through-an-empty-part-of-path"
        ),
    }.items()
    for name in names.split()
)
