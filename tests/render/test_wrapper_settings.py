"""What a site, a user and the manifest may say to wrappers: seen by a runtime that only shows what it is given."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from neurocommand.model import Notice, Release
from neurocommand.render.runtimeoptions import Options, allowed
from neurocommand.render.wrapper import tombstone
from neurocommand.settings import Bind, WrapperSettings
from tests.render.test_wrapper import RELEASE, SHELLS, Bench, bench, image_of

__all__ = ["bench"]  # the fixture

PASSED = (
    *("DISPLAY", "LANG", "LANGUAGE", "LC_TIME", "LC_ALL", "TZ", "TERM", "OMP_NUM_THREADS", "OMP_SCHEDULE"),
    *("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "SLURM_JOB_ID", "PMI_RANK"),
    *("PMIX_SERVER_URI2", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
)
OTHERS = ("PYTHONPATH", "PERL5LIB", "BASH_ENV", "ENV", "SUBJECTS_DIR", "XDG_RUNTIME_DIR", "SLURM", "nc_x")
LOCALES = ("LANG", "LC_TIME", "LC_ALL")  # bash itself speaks of others
VALUE = "a 'b' \"c\" $(id) `id` \\ é\nexport DISPLAY=no\n*,:="


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_the_pass_list_and_nothing_else(shell: tuple[str, ...], bench: Bench) -> None:
    values = {name: "C.UTF-8" if name in LOCALES else VALUE for name in (*PASSED, *OTHERS)}
    bench.given(shell=shell, **values)
    given = {
        name.removeprefix("APPTAINERENV_"): value
        for name, value in bench.environment().items()
        if name.startswith("APPTAINERENV_")
    }
    assert given == {name: values[name] for name in PASSED}


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_line_of_a_value_is_no_variable(shell: tuple[str, ...], bench: Bench) -> None:
    bench.given(shell=shell, SCRIPT="x\nexport OMP_NUM_THREADS=4\nexport MINE=1", NEUROCOMMAND_PASS="MINE")
    assert not [name for name in bench.environment() if name.startswith("APPTAINERENV_")]


def test_functions_of_the_callers_bash_do_not_count(bench: Bench) -> None:
    functions = {
        f"BASH_FUNC_{name}%%": "() { echo PWNED; }" for name in ("cd", "command", "printf", "test", "readlink")
    }
    given = bench.given("x", shell=("bash", "--posix"), TMPDIR=str(bench.root), HOME="/home/me", **functions)
    assert given[-2:] == ["tool", "x"]
    assert "PWNED" not in given


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize("between", [" ", ",", ":", "  ,: "])
def test_the_users_own_list(between: str, shell: tuple[str, ...], bench: Bench) -> None:
    asked = between.join(("SUBJECTS_DIR", "FS_*", "IFS", "PATH"))
    others = {"SUBJECTS_DIR": "/s", "FS_LICENSE": "x y", "FSX": "no", "NEUROCOMMAND_PASS": asked, "IFS": "x"}
    bench.given(shell=shell, **others)
    given = {name for name in bench.environment() if name.startswith("APPTAINERENV_")}
    assert given == {"APPTAINERENV_SUBJECTS_DIR", "APPTAINERENV_FS_LICENSE"}


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_settings_of_the_configuration_and_of_the_machine(shell: tuple[str, ...], bench: Bench, tmp_path: Path) -> None:
    shared, scratch, only = (tmp_path / name for name in ("shared", "scratch", "only"))
    for place in (shared, scratch, only):
        place.mkdir()
    site = WrapperSettings(passed=("MINE",), binds=(Bind(str(shared), "/data", True), Bind("/is/not", "/there")))
    bench.write(site)
    conf = tmp_path / "wrapper.conf"
    conf.write_text(
        f"# ours\n\nbind {scratch}\nbind {only} /mnt/only ro\npass THEIRS OTHER_*\nruntime {bench.runtime}2"
    )
    Path(f"{bench.runtime}2").symlink_to(bench.runtime)
    given = bench.given(
        shell=shell, NEUROCOMMAND_WRAPPER_CONF=str(conf), MINE="1", THEIRS="2", OTHER_ONE="3", NOT="4", HOME="/home/x"
    )
    binds = [given[place + 1] for place, word in enumerate(given) if word == "--bind"]
    assert sorted(binds) == sorted((f"{shared}:/data:ro", f"{scratch}:{scratch}", f"{only}:/mnt/only:ro"))
    passed = {name for name in bench.environment() if "ENV_" in name}
    assert passed == {"APPTAINERENV_MINE", "APPTAINERENV_THEIRS", "APPTAINERENV_OTHER_ONE"}


def test_a_setting_that_there_is_not_is_named_with_its_file(bench: Bench, tmp_path: Path) -> None:
    conf = tmp_path / "wrapper.conf"
    conf.write_text("speed fast\n")
    done = bench.run(NEUROCOMMAND_WRAPPER_CONF=str(conf))
    assert (done.returncode, done.stderr.decode()) == (0, f"tool: {conf}: no such setting: speed\n")


def test_options_of_the_manifest_come_before_the_image(bench: Bench) -> None:
    options = allowed(["--fakeroot", "--bind=/tmp:/scratch", "--add-caps=all", "--nv"])
    assert options == Options(("--fakeroot", "--bind=/tmp:/scratch"), True, False, ("--add-caps=all",))
    bench.write(options=options)
    given = bench.given("x")
    assert given[5:] == ["--fakeroot", "--bind=/tmp:/scratch", image_of(bench), "tool", "x"]


@pytest.mark.parametrize(
    "argument",
    [
        *(
            "--security=uid:0",
            "--add-caps=CAP_SYS_ADMIN",
            "--allow-setuid",
            "--keep-privs",
            "--overlay=/x",
            "--writable",
        ),
        *(
            "--pwd=/",
            "--app=x",
            "--userns",
            "--net",
            "--network=none",
            "--home=/x",
            "--bind=relative",
            "--bind=/a:/b:rx",
        ),
        *("--bind=/a/../etc", "--env=PATH", "--env=lower=x", "--env=A=$(id)", "--fusemount=x", "-x", "--nvccli", "--"),
        *("--no-mount=proc", "--bind", "--dns=1.1.1.1", "--cpus=1", "--apply-cgroups=x", "--bind=/a;/b", "--env=A=b c"),
    ],
)
def test_other_options_of_a_manifest_are_refused(argument: str) -> None:
    assert allowed([argument]) == Options(refused=(argument,))


# --- graphics processors: the devices of a machine that has some stand in a mount namespace of the test's own -------

DEVICES = """
mount -t tmpfs tmpfs /dev && for name in null tty; do : >/dev/$name; done; mount --bind /proc/self/fd/9 /dev/null
for name in {devices}; do : >/dev/$name; done
PATH={path}:$PATH exec {tool} x 9<&-
"""


def with_devices(bench: Bench, devices: str, *, needs: str = "2.14", **environment: str) -> tuple[list[str], str]:
    """Run the tool where there are some devices, and where the host's graphics libraries need a version of glibc."""
    fake = bench.root / "fake"
    fake.mkdir(exist_ok=True)
    library = fake / "libGLdispatch.so.0"
    library.write_bytes(b"\0GLIBC_2.2.5\0GLIBC_" + needs.encode() + b"\0GLIBC_2.3\0")
    (fake / "ldconfig").write_text(f"#!/bin/sh\necho '\tlibGLdispatch.so.0 (libc6,x86-64) => {library}'\n")
    (fake / "getconf").write_text("#!/bin/sh\necho glibc 2.99\n")
    for name in ("ldconfig", "getconf"):
        (fake / name).chmod(0o755)
    settings = {"PATH": f"{bench.runtime.parent}:/usr/bin:/bin", "SHOWN": str(bench.root / "shown"), **environment}
    script = DEVICES.format(devices=devices, path=fake, tool=bench.tool)
    with open("/dev/null", "r+b") as null:
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", f"exec 9<>/dev/fd/{null.fileno()}; {script}"],
            capture_output=True,
            check=False,
            env=settings,
            pass_fds=(null.fileno(),),
        )
    assert done.returncode == 0, done.stderr.decode()
    return os.fsdecode(done.stdout).split("\0")[:-1], done.stderr.decode()


@pytest.mark.parametrize(
    ("setting", "devices", "needs", "flag"),
    [
        ("off", "nvidiactl", "2.14", ""),
        ("auto", "nvidiactl", "2.14", "--nv"),
        ("auto", "nvidiactl", "2.31", "--nv"),
        ("auto", "nvidiactl", "2.32", ""),
        ("auto", "nvidiactl", "2.4", "--nv"),
        ("auto", "kfd", "2.14", "--rocm"),
        ("auto", "", "2.14", ""),
        ("on", "nvidiactl", "2.38", "--nv"),
        ("on", "kfd", "2.38", "--rocm"),
    ],
)
def test_gpu(setting: str, devices: str, needs: str, flag: str, bench: Bench) -> None:
    """The image's glibc is 2.31: --nv would bring libraries that need a newer one, and nothing would start."""
    bench.write(WrapperSettings(gpu=setting))  # type: ignore[arg-type]
    given, said = with_devices(bench, devices, needs=needs)
    assert [word for word in given if word in ("--nv", "--rocm")] == ([flag] if flag else [])
    assert said == "", "scripts get the same output on every machine"


def test_the_user_and_the_manifest_decide_about_gpus(bench: Bench) -> None:
    bench.write(options=allowed(["--nv"]))
    assert "--nv" in with_devices(bench, "nvidiactl")[0], "the image asks for it: auto"
    assert "--nv" not in with_devices(bench, "")[0]
    assert "--nv" not in with_devices(bench, "nvidiactl", NEUROCOMMAND_GPU="off")[0]
    bench.write()
    assert "--nv" in with_devices(bench, "nvidiactl", NEUROCOMMAND_GPU="auto")[0]
    done = bench.run(NEUROCOMMAND_GPU="maybe")
    assert (done.returncode, done.stderr) == (126, b"tool: GPU setting maybe: use off, auto or on\n")


# --- what is missing ------------------------------------------------------------------------------------------------


def as_somebody(bench: Bench, script: str) -> subprocess.CompletedProcess[bytes]:
    """Run a script as root of a user namespace of its own, in which `somebody COMMAND` is another user."""
    if os.geteuid() != 0:
        pytest.skip("maps the ids of other users, which only root may")
    for place in bench.root.parents:
        if place.stat().st_mode & 0o055 != 0o055:
            place.chmod(place.stat().st_mode | 0o055)
    start = 'somebody() { setpriv --reuid=1000 --regid=1000 --clear-groups "$@"; }; '
    settings = {"PATH": f"{bench.runtime.parent}:/usr/bin:/bin", "SHOWN": "/dev/null"}
    with subprocess.Popen(
        # it is root, with root's rights, once its ids are mapped and a program starts
        ["unshare", "--user", "--mount", "sh", "-c", 'read -r go; exec sh -c "$0"', start + script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=settings,
    ) as running:
        own = os.readlink("/proc/self/ns/user")
        deadline = time.monotonic() + 10
        while os.readlink(f"/proc/{running.pid}/ns/user") == own:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{running.pid}/{name}").write_text("0 0 65536\n")
        output, errors = running.communicate(b"go\n", timeout=30)
    return subprocess.CompletedProcess([], running.returncode, output, errors)


def plain(bench: Bench) -> Path:
    """Let the runtime look like one without set-uid, behind a link; return where its starters are."""
    real = bench.root / "opt" / "bin" / "apptainer"
    real.parent.mkdir(parents=True)
    bench.runtime.rename(real)
    bench.runtime.symlink_to(real)
    starters = bench.root / "opt" / "libexec" / "apptainer" / "bin"
    starters.mkdir(parents=True)
    (starters / "starter").touch(0o755)
    return starters


def test_without_user_namespaces_one_line_names_the_remedy(bench: Bench) -> None:
    starters = plain(bench)
    script = f"echo 0 >/proc/sys/user/max_user_namespaces; somebody {bench.tool}"
    done = as_somebody(bench, script)
    remedy = "ask for `sysctl user.max_user_namespaces=15000`, or for the set-uid package of the runtime"
    expected = f"tool: user namespaces are switched off here: {remedy}\n"
    assert (done.returncode, done.stdout, done.stderr.decode()) == (126, b"", expected)
    # a set-uid runtime needs none
    (starters / "starter-suid").touch()
    (starters / "starter-suid").chmod(0o4755)
    done = as_somebody(bench, script)
    assert (done.returncode, done.stderr) == (0, b"")
    # and of one that is put together in another way nothing is known: it speaks for itself
    for name in ("starter", "starter-suid"):
        (starters / name).unlink()
    assert as_somebody(bench, script).returncode == 0


def test_without_fuse_one_line_names_the_remedy(bench: Bench) -> None:
    plain(bench)
    bench.write(image_format="sif")
    image = bench.directory / f"{RELEASE.id}.simg"
    image.rmdir()
    image.write_text("a SIF")
    kept = bench.root / "null"
    bare = f": >{kept}; mount --bind /dev/null {kept}; mount -t tmpfs tmpfs /dev; : >/dev/null"
    script = f"{bare}; mount --bind {kept} /dev/null; somebody {bench.tool} x"
    done = as_somebody(bench, script)
    assert (done.returncode, done.stdout.split(b"\0")[-3:]) == (0, [b"tool", b"x", b""])
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("tool: /dev/fuse is missing")
    assert line.endswith("or install with --format tree")


# --- inside a container ---------------------------------------------------------------------------------------------


def test_inside_its_own_image_the_command_runs_directly_and_inside_another_one_that_is_said(bench: Bench) -> None:
    text = (bench.directory / "wrapper.sh").read_text()
    assert "[ -d /.singularity.d ]" in text
    (bench.directory / "wrapper.sh").write_text(text.replace("/.singularity.d", str(bench.root)))
    own = bench.root / "own"
    own.mkdir()
    (own / "tool").write_text('#!/bin/sh\nprintf "direct %s|" "$@"\n')
    (own / "tool").chmod(0o755)
    path = f"{bench.tool.parent}:{own}:/usr/bin:/bin"
    done = bench.run("a b", "", PATH=path, APPTAINER_CONTAINER=f"/elsewhere/{RELEASE.id}.simg")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"direct a b|direct |", b"")
    done = bench.run(PATH="/usr/bin:/bin", SINGULARITY_CONTAINER=f"/elsewhere/{RELEASE.id}.simg")
    assert (done.returncode, done.stderr) == (127, b"tool: not on the PATH of its own container\n")
    done = bench.run(PATH=path, APPTAINER_CONTAINER="/x/fsl_6.0_20250101.simg")
    expected = "tool: called inside the container fsl_6.0_20250101.simg; it needs one of its own: call it on the host\n"
    assert (done.returncode, done.stderr.decode()) == (126, expected)


def test_a_variable_alone_is_no_container(bench: Bench) -> None:
    """It may have come along with a job: only what /.singularity.d shows counts."""
    assert not Path("/.singularity.d").exists()
    assert bench.given("x", APPTAINER_CONTAINER="/x/other.simg")[-1] == "x"


# --- withdrawn ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_withdrawn_release_says_why_since_when_and_what_replaces_it(shell: tuple[str, ...], bench: Bench) -> None:
    notice = Notice("wrong results; it's `id` $(id)", Release("small", "1.1", "20260301"), "2026-03-02")
    (bench.directory / "wrapper.sh").write_text(tombstone(RELEASE, notice))
    done = bench.run("x", shell=shell)
    assert (done.returncode, done.stdout) == (69, b"")
    expected = "is withdrawn since 2026-03-02: wrong results; it's `id` $(id); use small/1.1 instead"
    assert done.stderr.decode() == f"tool: {RELEASE.id} {expected}\n"


def test_a_wrapper_whose_body_is_gone_says_so(bench: Bench) -> None:
    (bench.directory / "wrapper.sh").unlink()
    done = bench.run()
    assert done.returncode == 126
    assert done.stderr.decode().endswith(f"/wrapper.sh cannot be read; install {RELEASE.id} again\n")


def test_a_wayland_socket_is_shown(bench: Bench) -> None:
    place = bench.root / "run"
    place.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(place / "wayland-0"))
        given = bench.given(WAYLAND_DISPLAY="wayland-0", XDG_RUNTIME_DIR=str(place), HOME="/home/x")
        assert f"{place}/wayland-0:{place}/wayland-0" in given
        assert bench.environment()["APPTAINERENV_XDG_RUNTIME_DIR"] == str(place)
        bench.given(WAYLAND_DISPLAY="wayland-1", XDG_RUNTIME_DIR=str(place))
        assert "APPTAINERENV_XDG_RUNTIME_DIR" not in bench.environment()
