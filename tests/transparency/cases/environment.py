"""The environment: what is passed arrives as it was, the rest stays outside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from tests.transparency.case import Case, ended, host
from tests.transparency.outcomes import Outcome, variables
from tests.transparency.routes import Call

# The runtime names itself, its image and its binds in these, anew in each call.
RUNTIMES = (b"APPTAINER_", b"SINGULARITY_")
BARE = "on the host the whole environment is seen"

HOSTILE = {
    "newlines": "a\nb\n\nc\n",
    "trailing-newlines": "x\n\n\n",
    "quotes": "'\"'\"\"''",
    "dollars": "$HOME ${x:?} $(id) $$ $",
    "backticks": "`id` `",
    "backslashes": "\\ \\\\ \\n \\",
    "commas": "a,b,,c=d,",
    "equals": "=a==b=",
    "colons": ":a::b:",
    "blanks": "  a  b\t",
    "globs": "* ? [a-z] /*",
    "controls": "\x01\x1b[0m\x7f\r",
    "letters": "é 脳 \U0001f9e0",
    "percents": "%s %n %%",
    "empty": "",
    "exclamation": "! !! #x ~",
    "shellshock": "() { :;}; echo PWNED",
    "a-hundred-kilobytes": "x" * 100_000,
}

VARIABLES = {name.replace("-", "_").upper(): value for name, value in HOSTILE.items()}

# name of the case: the caller's variables, and those of them that must be seen
PASSED: dict[str, tuple[Mapping[str, str], tuple[str, ...]]] = {
    "display": ({"DISPLAY": "remote:10.0"}, ("DISPLAY",)),
    "wayland": (
        {"WAYLAND_DISPLAY": "wayland-1", "XDG_RUNTIME_DIR": "/tmp"},
        ("WAYLAND_DISPLAY",),
    ),
    "no-runtime-directory-without-wayland": ({"XDG_RUNTIME_DIR": "/tmp"}, ()),
    "languages": (
        {"LANG": "de_DE.UTF-8", "LANGUAGE": "de:en", "LC_ALL": "C", "LC_CTYPE": "C.UTF-8", "LC_PAPER": "a", "LC_X": ""},
        ("LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_PAPER", "LC_X"),
    ),
    "time-zone": ({"TZ": ":Europe/Berlin"}, ("TZ",)),
    "terminal": ({"TERM": "xterm-256color"}, ("TERM",)),
    "openmp": (
        {"OMP_NUM_THREADS": "2,3", "OMP_PLACES": "{0:4}", "OMP_X_Y": "z"},
        ("OMP_NUM_THREADS", "OMP_PLACES", "OMP_X_Y"),
    ),
    "mathematics": (
        {
            "MKL_NUM_THREADS": "2",
            "MKL_DYNAMIC": "FALSE",
            "OPENBLAS_NUM_THREADS": "3",
            "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "4",
        },
        ("MKL_NUM_THREADS", "MKL_DYNAMIC", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"),
    ),
    "slurm": (
        {"SLURM_JOB_ID": "1", "SLURM_CPUS_ON_NODE": "2", "SLURM_JOB_NAME": "a b\nc"},
        ("SLURM_JOB_ID", "SLURM_CPUS_ON_NODE", "SLURM_JOB_NAME"),
    ),
    "process-managers": ({"PMI_RANK": "0", "PMIX_ID": "a.b", "PMI_": "c"}, ("PMI_RANK", "PMIX_ID", "PMI_")),
    "devices": (
        {
            "CUDA_VISIBLE_DEVICES": "0,1",
            "NVIDIA_VISIBLE_DEVICES": "all",
            "ROCR_VISIBLE_DEVICES": "0",
            "HIP_VISIBLE_DEVICES": "",
        },
        ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
    ),
    "asked-for-by-name": (
        {"NEUROCOMMAND_PASS": "SUBJECTS_DIR", "SUBJECTS_DIR": "/a b", "SUBJECTS": "n"},
        ("SUBJECTS_DIR",),
    ),
    "asked-for-by-pattern": (
        {"NEUROCOMMAND_PASS": "FS_* ?Q", "FS_LICENSE": "/l", "FS_": "", "FSX": "n", "AQ": "1", "AAQ": "n"},
        ("FS_LICENSE", "FS_", "AQ"),
    ),
    "asked-for-with-each-separator": (
        {"NEUROCOMMAND_PASS": " A1,B1:C1\tD1, :E1 ", "A1": "a", "B1": "b", "C1": "c", "D1": "d", "E1": "e", "F1": "n"},
        ("A1", "B1", "C1", "D1", "E1"),
    ),
    "asked-for-and-absent": ({"NEUROCOMMAND_PASS": "NOT_THERE FS_*"}, ()),
    "asked-for-with-code": (
        {"NEUROCOMMAND_PASS": "$(touch${IFS}PWNED) `id` ;x A1 /* [", "A1": "a"},
        ("A1",),
    ),
    "for-apptainer": ({"APPTAINERENV_A": "a b", "APPTAINERENV_B_1": "c,d"}, ("A", "B_1")),
    "for-singularity": ({"SINGULARITYENV_A": "a b", "SINGULARITYENV_B_1": "c,d"}, ("A", "B_1")),
    "for-both": ({"APPTAINERENV_A": "new", "SINGULARITYENV_A": "old"}, ("A",)),
    "apptainers-before-the-callers": ({"APPTAINERENV_TZ": "mine", "TZ": "UTC", "LANG": "C.UTF-8"}, ("TZ", "LANG")),
    "singularitys-before-the-callers": ({"SINGULARITYENV_TERM": "mine", "TERM": "dumb"}, ("TERM",)),
    # the runtime passes these by itself
    "proxies": ({"http_proxy": "http://x:1/", "HTTPS_PROXY": "y", "no_proxy": "a,b"}, ("http_proxy",)),
    "several-hundred": ({f"OMP_X{number}": f"{number} '" for number in range(300)}, ("OMP_X0", "OMP_X299")),
}

# Variables that must stay outside, since they steer the image's programs, a shell, or the loader.
KEPT_OUT: dict[str, Mapping[str, str]] = {
    "python": {
        "PYTHONPATH": "/x",
        "PYTHONHOME": "/x",
        "PYTHONSTARTUP": "/x",
        "VIRTUAL_ENV": "/x",
        "CONDA_PREFIX": "/x",
    },
    "perl-and-others": {"PERL5LIB": "/x", "PERL5OPT": "-w", "RUBYLIB": "/x", "R_LIBS": "/x", "JAVA_TOOL_OPTIONS": "-X"},
    "the-loader-s-path": {"LD_LIBRARY_PATH": "/nowhere", "LD_RUN_PATH": "/x"},
    "the-loader-s-preload": {"LD_PRELOAD_X": "/x", "LD_BIND_NOW": "1"},
    "shell-startup": {"BASH_ENV": "/nowhere/x", "ENV": "/nowhere/y", "SHELLOPTS_X": "x", "BASHOPTS_X": "y"},
    "cdpath": {"CDPATH": "/usr:/"},
    "ifs": {"IFS": "/_.0123456789"},
    "functions": {"BASH_FUNC_exec%%": "() {  echo PWNED\n}", "BASH_FUNC_set%%": "() {  echo PWNED\n}"},
    "odd-names": {"a.b": "1", "a-b": "2", "1a": "3", "a b": "4", "é": "5", "a\nb": "6", "$x": "7", "OMP_a.b": "8"},
    "options-of-shells": {"POSIXLY_CORRECT": "1", "PS4": "$(touch PWNED)", "MAIL": "/x", "HISTFILE": "/x"},
    "names-of-the-wrapper": {
        **dict.fromkeys(("self", "image", "runtime", "prefix", "name", "flag", "place", "there", "key"), "PWNED"),
        **dict.fromkeys(("value", "link", "effective", "release", "command", "x", "n", "i", "IFS_"), "PWNED"),
    },
    "secrets": {"AWS_SECRET_ACCESS_KEY": "x", "SSH_AUTH_SOCK": "/tmp/x", "TOKEN": "y"},
    "who-calls": {"USER": "x", "LOGNAME": "x", "SHELL": "/bin/zsh", "EDITOR": "vi", "HOSTNAME": "h", "OLDPWD": "/x"},
    "a-wrong-working-directory": {"PWD": "/nowhere"},
}


# Each of these has its own call, since what is given stands in another's way, or changes how a shell works.
ALONE = {
    *("wayland", "no-runtime-directory-without-wayland", "asked-for-by-name", "asked-for-by-pattern"),
    *("asked-for-with-each-separator", "asked-for-and-absent", "asked-for-with-code", "for-both", "several-hundred"),
    *("apptainers-before-the-callers", "singularitys-before-the-callers", "for-apptainer", "for-singularity"),
    *("cdpath", "ifs", "functions", "odd-names", "names-of-the-wrapper", "a-wrong-working-directory"),
}


def _together(
    kind: str, of: Mapping[str, Mapping[str, str]], names: Mapping[str, tuple[str, ...] | None]
) -> Iterator[Case]:
    """Yield cases that look at their own variables in the environment of one call."""
    given = {name: value for key, values in of.items() if key not in ALONE for name, value in values.items()}
    for key, values in of.items():
        if key in ALONE:
            yield _seen(f"{kind}-{key}", values, names[key])
            continue
        whole = _seen(f"{kind}-{key}", given, names[key])
        starts = tuple(f"{name}=".encode() for name in (*values, "PATH", "HOME"))

        def pick(outcome: Outcome, starts: tuple[bytes, ...] = starts) -> Outcome:
            lines = [line for line in outcome.out.split(b"\n") if line.startswith(starts)]
            return replace(outcome, out=b"\n".join(lines))

        yield replace(whole, shared=f"environment-{kind}-together", pick=pick)


def _seen(name: str, given: Mapping[str, str], names: tuple[str, ...] | None) -> Case:
    """Compare the whole environment; names: of those that must be seen, None where the given must not."""

    def observe(call: Call) -> Outcome:
        return variables(call.run("cat", "/proc/self/environ", env=given), RUNTIMES)

    def check(outcome: Outcome) -> None:
        assert (outcome.code, outcome.err, outcome.files) == (0, b"", ()), outcome
        lines = outcome.out.decode(errors="surrogateescape")
        for expected in names or ():
            assert f"\n{expected}=" in f"\n{lines}", lines
        for kept, value in given.items() if names is None else ():
            assert f"\n{kept}={value}\n" not in f"\n{lines}\n", lines

    return Case(f"environment-{name}", observe, check, BARE)


def _hostile() -> Case:
    """One call with each hostile value in a variable of each kind: passed, asked for, and made for the runtime."""
    given = {"NEUROCOMMAND_PASS": "ASKED_*"}
    for number, value in enumerate(value for value in HOSTILE.values() if len(value) < 1000):
        given |= {f"OMP_{number}": value, f"ASKED_{number}": value, f"APPTAINERENV_OWN_{number}": value}
        given |= {f"SINGULARITYENV_OLD_{number}": value}
    names = ("OMP_0", "ASKED_0", "OWN_0", "OLD_0", "ASKED_3")
    return _seen("hostile-values-of-every-kind", given, names)


def _value(name: str, value: str) -> Case:
    """Each hostile value is seen in one call, in a variable of its own."""

    def observe(call: Call) -> Outcome:
        return call.run("cat", "/proc/self/environ", env={f"OMP_{key}": value for key, value in VARIABLES.items()})

    def pick(outcome: Outcome) -> Outcome:
        found = [line for line in outcome.out.split(b"\0") if line.startswith(f"OMP_{variable}=".encode())]
        return replace(outcome, out=b"\0".join(found))

    variable = name.replace("-", "_").upper()
    expected = ended(0, f"OMP_{variable}={value}".encode())
    return Case(f"environment-value-{name}", observe, expected, shared="environment-values", pick=pick)


def _image() -> Case:
    """PATH is the image's, HOME the caller's, and nobody else's variables are there."""

    def observe(call: Call) -> Outcome:
        return call.run("ash", "-c", 'echo "$PATH"; echo "$HOME"; echo "${USER-none}"; echo ~; cd && pwd')

    def check(outcome: Outcome) -> None:
        path, home, user, tilde, cd = outcome.out.decode().splitlines()
        assert path.startswith("/opt/small/bin:")
        assert home == tilde == cd
        assert user == "none"

    return Case("environment-path-home-user", observe, check, "PATH is the image's")


CASES = (
    *_together(
        "passed",
        {name: given for name, (given, _) in PASSED.items()},
        {name: names for name, (_, names) in PASSED.items()},
    ),
    *_together("kept-out", KEPT_OUT, dict.fromkeys(KEPT_OUT)),
    *(_value(name, value) for name, value in HOSTILE.items()),
    _hostile(),
    _image(),
    _seen("nothing-given", {}, ("HOME", "PATH")),
    host(
        "environment-exported-functions-of-bash",
        'f() { echo PWNED; }; exec_() { :; }; export -f f exec_; "$T" -c "type f" 2>&1; echo $?',
        shell=("/bin/bash", "-c"),
        out=b"f: not found\n127\n",
        deviation="busybox's shell knows no functions of bash's; held against the wrapper all the same",
    ),
    host(
        "environment-a-preload-that-is-not-there",
        'LD_PRELOAD=/nowhere.so "$T" -c "echo \\"${LD_PRELOAD-none}\\"" 2>/dev/null',
        having=b"\n",
        deviation="the host's loader complains about it to every program there",
    ),
)
