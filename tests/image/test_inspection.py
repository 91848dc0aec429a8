"""What an image says about its use; hostile ones, and a SIF read like its tree."""

from __future__ import annotations

import json
import os
import re
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocommand.deploy import Deployer
from neurocommand.errors import ImageError
from neurocommand.events import Noted
from neurocommand.files import digest_of
from neurocommand.image import sif
from neurocommand.image.inspection import inspect_sif, inspect_tree, is_excluded_command, is_excluded_variable
from neurocommand.image.tree import normalise
from neurocommand.layout import Root
from neurocommand.manifest import Declaration
from neurocommand.model import Artifact, Inspection, Release, SkippedCommand
from tests import images
from tests.images import HELLO, Rootfs

PATH = "/opt/t/bin:/usr/bin:/bin"


def elf(machine: int, *, big: bool = False, bits: int = 1) -> bytes:
    """Return the start of an ELF header, elf(5)."""
    start = b"\x7fELF" + bytes([bits, 2 if big else 1, 1]) + bytes(9)
    return start + struct.pack(">HH" if big else "<HH", 2, machine) + bytes(44)


def inspected(rootfs: Rootfs, tmp_path: Path, application: str = "t", **environment: str) -> Inspection:
    """Inspect a tree; the environment has a PATH, as every image."""
    tree = rootfs.unpacked(tmp_path / "tree")
    return inspect_tree(tree, application, tuple({"PATH": PATH, **environment}.items()))


def reasons(inspection: Inspection) -> dict[str, str]:
    return {skipped.name: skipped.reason for skipped in inspection.skipped}


def test_the_small_image(small_sif: Path, tmp_path: Path) -> None:
    sif.unpack(small_sif, tmp_path / "tree")
    expected = Inspection(
        commands=("smallargs", "smallexit", "smallhello", "smallsh"),
        skipped=(),
        environment=(("SMALLDIR", "BASEPATH/opt/small"), ("SMALLMODE", "quiet")),
        readme="# small\n\nA small tool that says hello.\n",
        architecture="amd64",
    )
    assert inspect_tree(tmp_path / "tree", "small", sif.recorded_environment(small_sif)) == expected
    assert inspect_tree(tmp_path / "tree", "small", None) == expected
    assert inspect_sif(small_sif, "small", tmp_path / "scratch") == expected
    unpacked = [path.name for path in (tmp_path / "scratch").rglob("*") if path.is_file()]
    assert len(unpacked) < len([path for path in (tmp_path / "tree").rglob("*") if path.is_file()]) / 2


def test_names(tmp_path: Path) -> None:
    good = ["3dcalc", "@auto_tlrc", "_x", "bet", "c++tool", "a.b-c_d@e", "commands.txt", "N4", "x" * 200]
    bad = ["-rf", "my tool", "a;b", "x$(id)", ".hidden", "+x", "é", "a'b", 'a"b', "*", "x" * 201, "a\\b"]
    rootfs = Rootfs()
    for name in [*good, *bad, "new\nline"]:
        rootfs.file(f"opt/t/bin/{name}")
    rootfs.file(os.fsdecode(b"opt/t/bin/\xff\xfe"))
    found = inspected(rootfs, tmp_path, DEPLOY_PATH="/opt/t/bin")
    assert list(found.commands) == sorted(good)
    assert set(reasons(found)) == {*bad, "'new\\nline'", "'\\udcff\\udcfe'"}
    assert all("safe" in reason or "longer" in reason for reason in reasons(found).values())
    assert all(f"{skipped.name}: {skipped.reason}".isprintable() for skipped in found.skipped)


def test_only_programs_are_commands(tmp_path: Path) -> None:
    rootfs = Rootfs().file("opt/t/bin/ascript").file("opt/t/bin/elf", elf(62)).file("opt/t/bin/plain", "data")
    rootfs.file("opt/t/bin/noexec", mode=0o644).file("opt/t/bin/empty", "").file("opt/t/bin/libx.so.1.2", elf(62))
    rootfs.directory("opt/t/bin/directory").add("opt/t/bin/pipe", b"6").file("opt/t/bin/onlyroot", mode=0o700)
    for name, target in {
        "tolib": "../lib/tool",
        "absolute": "/opt/t/lib/tool",
        "clamped": "../../../../../../opt/t/lib/tool",
        "chain": "absolute",
        "todirectory": "/opt",
        "broken": "/nowhere",
        "loop1": "loop2",
        "loop2": "loop1",
        "outside": "../../../../../../../../../../../etc/passwd",
        "throughfile": "ascript/x",
        "todata": "/opt/t/lib/data",
    }.items():
        rootfs.link(f"opt/t/bin/{name}", target)
    rootfs.file("opt/t/lib/tool").file("opt/t/lib/data", "x", mode=0o644)
    found = inspected(rootfs, tmp_path, DEPLOY_PATH="/opt/t/bin")
    assert found.commands == ("absolute", "ascript", "chain", "clamped", "elf", "onlyroot", "tolib")
    assert {name: reason.split()[0] for name, reason in reasons(found).items()} == {
        "plain": "executable,",
        "empty": "executable,",
        "libx.so.1.2": "a",
        **dict.fromkeys(("broken", "loop1", "loop2", "outside", "throughfile"), "a"),
    }


def test_deploy_path_with_links_and_oddities(tmp_path: Path) -> None:
    rootfs = Rootfs().file("opt/t-1.0/bin/one").link("opt/t", "t-1.0").file("usr/bin/two").link("extra", "/usr/bin")
    rootfs.link("away", "/../../../../../../..")
    path = "/opt/t/bin/::/extra/:/missing:relative:/opt/t/bin"
    found = inspected(rootfs, tmp_path, DEPLOY_PATH=path)
    assert found.commands == ("one", "two")
    assert set(reasons(found)) == {"/missing", "relative"}
    assert inspect_tree(tmp_path / "tree", "t", (("DEPLOY_PATH", "/away"), ("PATH", "/"))).commands == ()


def test_what_the_container_would_not_find_is_no_command(tmp_path: Path) -> None:
    rootfs = Rootfs().file("opt/hidden/lost").file("opt/hidden/found").file("usr/local/bin/found")
    rootfs.file("usr/bin/tool").file("sbin/late").directory("usr/bin/adir")
    found = inspected(
        rootfs,
        tmp_path,
        DEPLOY_PATH="/opt/hidden",
        DEPLOY_BINS="tool::late:typo:adir:../tool:/usr/bin/tool:..:a\0b:\ud800",
    )
    assert found.commands == ("found", "late", "tool")
    assert "is not on the image's PATH" in reasons(found)["lost"]
    others = {"typo", "adir", "../tool", "/usr/bin/tool", "..", "'a\\x00b'", "'\\ud800'"}
    assert set(reasons(found)) == {"lost", *others}


def test_excluded_commands(tmp_path: Path) -> None:
    rootfs = Rootfs()
    for name in ("sh", "ls", "python3", "git", "bet", "octave"):
        rootfs.file(f"opt/t/bin/{name}")
    found = inspected(rootfs, tmp_path, "octave", DEPLOY_PATH="/opt/t/bin", DEPLOY_BINS="perl")
    assert found.commands == ("bet", "octave")
    assert {name for name, reason in reasons(found).items() if "would hide" in reason} == {"sh", "ls", "python3", "git"}


def test_what_is_exposed_though_it_is_excluded(tmp_path: Path) -> None:
    rootfs = Rootfs()
    for name in ("sh", "python3", "bet", "-x"):
        rootfs.file(f"opt/t/bin/{name}")
    tree = rootfs.unpacked(tmp_path / "tree")
    recorded = (("PATH", PATH), ("DEPLOY_PATH", "/opt/t/bin"))
    found = inspect_tree(tree, "t", recorded, ("python3", "-x", "absent"))
    assert found.commands == ("bet", "python3")
    assert set(reasons(found)) == {"sh", "-x"}
    sif_file = images.packed_sif(
        rootfs, tmp_path / "t.sif", json.dumps({"Env": [f"{k}={v}" for k, v in recorded]}).encode()
    )
    assert inspect_sif(sif_file, "t", tmp_path / "scratch", ("python3", "-x", "absent")) == found


def test_the_list_has_what_users_complained_about() -> None:
    names = "sh bash python python3 perl R Rscript java tclsh git wget ssh bc ls which apt pip conda make gcc"
    assert [name for name in names.split() if not is_excluded_command(name)] == []
    tools = """bet flirt mrview recon-all 3dcalc dcm2niix fslmaths fsl_sub niimath mri_convert @auto_tlrc e2proc2d.py
        gdcmdump munge_sumstats.py update_fsl_release antsRegistration fsl-config root-config cat_matvec msgpipe"""
    assert [name for name in (*tools.split(), "#", "*") if is_excluded_command(name)] == []


def test_the_list_has_what_the_runtime_a_batch_system_and_a_session_look_for() -> None:
    """Apptainer finds its helpers on PATH: one module with a squashfuse_ll would stop every wrapper of every image."""
    names = """squashfuse squashfuse_ll fuse2fs fuse-overlayfs fusermount fusermount3 fakeroot unsquashfs mksquashfs
        gocryptfs newuidmap newgidmap nvidia-container-cli nvidia-smi nvidia-modprobe starter starter-suid apptainer
        singularity cryptsetup mkfs.ext3 mount.fuse3 proot ldconfig dd cp truncate curl tar docker-credential-pass
        pkexec kinit klist scontrol sacctmgr sattach sbcast srun qsub bsub mpicc mpicc.openmpi mpirun mpiexec.hydra
        orted module ml modulecmd.tcl ssh-add gpg-agent systemctl dbus-launch setpriv git-remote-https readlink"""
    assert [name for name in names.split() if not is_excluded_command(name)] == []


VITAL = """PATH HOME IFS ENV BASH_ENV LD_PRELOAD LD_LIBRARY_PATH MODULEPATH PYTHONPATH PS1 TMPDIR LC_ALL
    APPTAINER_BIND SINGULARITYENV_X NEUROCOMMAND_RUNTIME LMOD_CMD BASH_FUNC_ls PROMPT_COMMAND GIT_SSH SHELLOPTS
    PERL5LIB path fpath cdpath manpath module_path mailpath argv cwd status precmd preexec chpwd periodic histchars
    http_proxy _ _x neurodesk_singularity_opts Path TMOUT TAR_OPTIONS FUNCNEST NULLCMD READNULLCMD VIMINIT EXINIT
    MANPAGER SYSTEMD_PAGER RSYNC_RSH MAKEFLAGS OPENSSL_CONF OPENSSL_MODULES GTK_MODULES GTK_PATH QT_PLUGIN_PATH
    SCREENRC JULIA_LOAD_PATH R_LIBS PIP_INDEX_URL AWS_PROFILE DOCKER_HOST SBATCH_ACCOUNT SLURM_CONF SRUN_DEBUG
    OMPI_MCA_btl OMPI_MCA_PLM I_MPI_HYDRA_BOOTSTRAP TERMCAP TERMINFO KRB5CCNAME KRB5_CONFIG GREP_OPTIONS RANDOM CC
    MALLOC_CHECK_ LS_COLORS ZDOTDIR BASHOPTS SOMETHING_OPTIONS SOMETHING_PATH SOMETHING_PRELOAD SOMETHING_PAGER
    CFLAGS"""


@pytest.mark.parametrize("name", sorted(VITAL.split()))
def test_variables_that_a_host_lives_by(name: str, tmp_path: Path) -> None:
    found = inspected(Rootfs().directory("opt"), tmp_path, **{f"DEPLOY_ENV_{name}": "x", "DEPLOY_ENV_FSLDIR": "y"})
    assert found.environment == (("FSLDIR", "y"),)
    assert "host" in reasons(found)[f"DEPLOY_ENV_{name}"]


NEURODESK = "FSLDIR FREESURFER_HOME DEEPWMH_MODEL_DIR SPMMCRCMD FORCE_SPMMCR"
OTHERS = "FSLOUTPUTTYPE FSLMULTIFILEQUIT SUBJECTS_DIR FS_LICENSE ANTSPATH MRTRIX_TMPFILE_PREFIX MCR_ROOT HCPPIPEDIR"


def test_variables_that_tools_of_the_field_live_by(tmp_path: Path) -> None:
    names = sorted([*NEURODESK.split(), *OTHERS.split()])
    environment = {f"DEPLOY_ENV_{name}": "x" for name in names}
    found = inspected(Rootfs().directory("opt"), tmp_path, **environment)
    assert (found.environment, found.skipped) == (tuple((name, "x") for name in names), ())


def test_variables(tmp_path: Path) -> None:
    good = {
        "FOO": "a=b",
        "EMPTY": "",
        "Q": "\"'`$(id)\\ ]] ]=]",
        "T": "a\tb",
        "N1_": "é",
        "PATHS": "x",
        "FSLDIR": "BASEPATH/o",
        "EQUALS": "a=b:c=d: =ls:x=",
        "END": "x:=",
    }
    bad = {
        "1A": "x",
        "": "x",
        "A-B": "x",
        "A B": "x",
        "NL": "a\nb",
        "NUL": "a\0b",
        "ESC": "\x1b[1m",
        "SUR": "\ud800",
        "é": "x",
        "EQ": "=ls",
        "EQ_LIST": "/a:=ls",
    }
    environment = {f"DEPLOY_ENV_{name}": value for name, value in {**good, **bad}.items()}
    found = inspected(Rootfs().directory("opt"), tmp_path, **environment, FOO="other", XDEPLOY_ENV_Z="z")
    assert dict(found.environment) == good
    assert list(found.environment) == sorted(found.environment)
    assert set(reasons(found)) == {f"DEPLOY_ENV_{name}" for name in bad}
    assert "line break" in reasons(found)["DEPLOY_ENV_NL"]
    assert "zsh" in reasons(found)["DEPLOY_ENV_EQ"]


def test_every_word_of_the_list_keeps_a_name_out_that_could_be_set() -> None:
    text = (Path(__file__).parents[2] / "wrappers/excluded-variables.txt").read_text()
    words = [word for line in text.splitlines() for word in line.partition("#")[0].split()]
    assert len(words) == len(set(words)) > 500
    examples = [word.replace("*", "A") for word in words]
    assert [name for name in examples if not re.fullmatch("[A-Z_][A-Z0-9_]*", name)] == []
    assert [name for name in examples if not is_excluded_variable(name)] == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"plain\n", "plain\n"),
        (b"a\0b\x1b[31mc\x07\x7f\xc2\x9bd", "ab[31mcd"),
        (b"bad \xff\xfe utf-8", "bad \ufffd\ufffd utf-8"),
        (b"a\r\nb\rc\n\td", "a\nbc\n\td"),
        (b"]===] ]] ]=]", "]===] ]] ]=]"),
        (b"x" * 300_000, "x" * 262_144),
        (b"", ""),
    ],
)
def test_readme(content: bytes, expected: str, tmp_path: Path) -> None:
    assert inspected(Rootfs().file("README.md", content, mode=0o644), tmp_path).readme == expected


def test_a_readme_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    for number, rootfs in enumerate(
        (
            Rootfs().link("README.md", "/etc/shadow").file("etc/shadow", "inner"),
            Rootfs().link("README.md", str(tmp_path / "secret")),
            Rootfs().link("README.md", "../secret"),
            Rootfs().directory("README.md"),
            Rootfs().add("README.md", b"6"),
        )
    ):
        assert inspected(rootfs, tmp_path / str(number)).readme == ""


def test_environment_files_that_are_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "evil.sh").write_text("export DEPLOY_ENV_EVIL=yes\n")
    (tmp_path / "env").mkdir()
    (tmp_path / "env/10-docker.sh").write_text("export DEPLOY_ENV_EVIL=yes\n")
    file = Rootfs().file(".singularity.d/env/10-docker2singularity.sh", "export DEPLOY_ENV_OWN=1\n")
    file.link(".singularity.d/env/20-evil.sh", str(tmp_path / "evil.sh")).link(
        ".singularity.d/env/30.sh", "../../../evil.sh"
    )
    file.file(".singularity.d/env/README", "export DEPLOY_ENV_TEXT=1").file(
        ".singularity.d/env/95-apps.sh", "DEPLOY_ENV_A=1"
    )
    file.unpacked(tmp_path / "one")
    assert inspect_tree(tmp_path / "one", "t", None).environment == (("OWN", "1"),)
    for number, link in enumerate((".singularity.d/env", ".singularity.d")):
        target = str(tmp_path / "env") if link.endswith("env") else str(tmp_path)
        Rootfs().link(link, target).unpacked(tmp_path / f"linked{number}")
        assert inspect_tree(tmp_path / f"linked{number}", "t", None).environment == ()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (elf(62), "amd64"),
        (elf(183), "arm64"),
        (elf(3), "386"),
        (elf(21, big=True), "ppc64"),
        (elf(21), "ppc64le"),
        (elf(8), "mipsle"),
        (elf(8, big=True, bits=2), "mips64"),
        (elf(8, bits=2), "mips64le"),
        (elf(9999), ""),
        (elf(62)[:19], ""),
        (HELLO, ""),
    ],
)
def test_architecture(content: bytes, expected: str, tmp_path: Path) -> None:
    found = inspected(Rootfs().file("opt/t/bin/tool", content), tmp_path, DEPLOY_PATH="/opt/t/bin")
    assert (found.commands, found.architecture) == (("tool",), expected)


def test_architecture_of_most_programs_or_of_the_shell(tmp_path: Path) -> None:
    rootfs = Rootfs().file("opt/t/bin/a", elf(183)).file("opt/t/bin/b", elf(183)).file("opt/t/bin/c", elf(62))
    assert inspected(rootfs, tmp_path, DEPLOY_PATH="/opt/t/bin").architecture == "arm64"
    scripts = (
        Rootfs().file("opt/t/bin/a").file("usr/bin/dash", elf(183)).link("bin", "usr/bin").link("usr/bin/sh", "dash")
    )
    assert inspected(scripts, tmp_path / "2", DEPLOY_PATH="/opt/t/bin").architecture == "arm64"


# --- a SIF is read like its tree ---------------------------------------------------------------------------------


def both(rootfs: Rootfs, recorded: dict[str, str] | None, place: Path) -> tuple[Inspection, Inspection]:
    """Inspect a SIF, and the normalised tree that is unpacked from it."""
    text = None if recorded is None else json.dumps({"Env": [f"{k}={v}" for k, v in recorded.items()]}).encode()
    path = images.packed_sif(rootfs, place / "a.sif", text)
    sif.unpack(path, place / "tree")
    normalise(place / "tree", ("/data", "mnt"))
    return (
        inspect_tree(place / "tree", "t", sif.recorded_environment(path)),
        inspect_sif(path, "t", place / "scratch"),
    )


def hostile() -> Rootfs:
    """Return an image that tries everything we know of."""
    rootfs = images.base()
    for name in ("-rf", "my tool", "a;b", "commands.txt", "x$(id)", "new\nline", "good", "*", "sh", "'", '"'):
        rootfs.file(f"opt/t/bin/{name}")
    rootfs.file(os.fsdecode(b"opt/t/bin/\xff\xfe")).file("opt/t/bin/setuid", mode=0o4755)
    rootfs.file("opt/t/bin/closed", mode=0o700).file("usr/bin/other").file("deep/er/tool")
    rootfs.link("opt/t/bin/escape", "../../../../../../../../../../etc/passwd").link("opt/t/bin/abs", "/etc/passwd")
    rootfs.link("opt/t/bin/inner", "/opt/t/lib/real").file("opt/t/lib/real").link("opt/t/bin/self", "self")
    rootfs.link("linked", "/deep").link("README.md", "/etc/shadow").file("etc/shadow", "root:secret", mode=0o600)
    rootfs.add("dev/null", b"3", devmajor=1, devminor=3).add("dev/loop0", b"4", devmajor=7, devminor=0)
    rootfs.add("opt/t/bin/pipe", b"6").add("opt/t/bin/device", b"3", devmajor=1, devminor=3)
    rootfs.directory("closed", mode=0o000).file("closed/tool")
    rootfs.link(".singularity.d/env/20-evil.sh", "/etc/shadow")
    return rootfs


HOSTILE_ENVIRONMENT = {
    "PATH": "/opt/t/bin:/linked/er:/closed:/usr/bin:/bin",
    "DEPLOY_PATH": "/opt/t/bin/:/linked/er:/closed:/../../..:/dev",
    "DEPLOY_BINS": "other:missing:-rf:my tool:../../etc/passwd:commands.txt",
    "DEPLOY_ENV_QUOTES": "'\"\"' a=b=c \\ $(id) `id` ]] ]===] %s",
    "DEPLOY_ENV_BREAK": "a\nid",
    "DEPLOY_ENV_LD_PRELOAD": "/evil.so",
    "DEPLOY_ENV_EQ": "=nowhere",
    "DEPLOY_ENV_BASE": "BASEPATH/opt/t:BASEPATH",
}
HOSTILE_COMMANDS = ("closed", "commands.txt", "good", "inner", "other", "setuid", "tool")


def test_a_hostile_image(tmp_path: Path) -> None:
    tree, packed = both(hostile(), HOSTILE_ENVIRONMENT, tmp_path)
    assert tree == packed
    assert tree.commands == HOSTILE_COMMANDS
    assert {
        "-rf",
        "my tool",
        "a;b",
        "x$(id)",
        "'new\\nline'",
        "'\\udcff\\udcfe'",
        "escape",
        "abs",
        "self",
        "sh",
    } <= set(reasons(tree))
    assert dict(tree.environment) == {
        "QUOTES": HOSTILE_ENVIRONMENT["DEPLOY_ENV_QUOTES"],
        "BASE": HOSTILE_ENVIRONMENT["DEPLOY_ENV_BASE"],
    }
    assert tree.readme == ""
    kinds = {stat.S_IFMT(path.lstat().st_mode) for path in (tmp_path / "tree").rglob("*")}
    assert kinds == {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}


def test_environment_files_are_read_from_a_sif_too(tmp_path: Path) -> None:
    rootfs = (
        Rootfs()
        .file("opt/t/bin/tool")
        .file(".singularity.d/env/90-environment.sh", "export DEPLOY_PATH=/opt/t/bin\nexport PATH=/opt/t/bin:$PATH\n")
    )
    rootfs.file(".singularity.d/env/10-docker2singularity.sh", 'export PATH="/bin"\n')
    tree, packed = both(rootfs, None, tmp_path)
    assert tree == packed
    assert packed.commands == ("tool",)


def test_the_root_itself_as_deploy_path(tmp_path: Path) -> None:
    tree, packed = both(Rootfs().file("tool").file("other"), {"DEPLOY_PATH": "/:/..", "PATH": "/"}, tmp_path)
    assert tree == packed
    assert packed.commands == ("other", "tool")


NAME = st.sampled_from(["a", "b", "bin", "tool", "-x", "n\nl", "st*r", "[q]", "c d", "e\\f"])
PLACE = st.lists(NAME, min_size=1, max_size=3).map("/".join)
TARGET = st.builds(
    lambda start, parts: start + "/".join(parts),
    st.sampled_from(["", "/"]),
    st.lists(NAME | st.just(".."), min_size=1, max_size=4),
)
ENTRY = st.one_of(
    st.tuples(
        st.just("file"), st.sampled_from([HELLO, elf(62), b"data"]), st.sampled_from([0o755, 0o644, 0o700, 0o000])
    ),
    st.tuples(st.just("link"), TARGET, st.just(0)),
    st.tuples(st.just("directory"), st.just(b""), st.sampled_from([0o755, 0o700, 0o000])),
)


def rootfs_of(entries: dict[str, tuple[str, bytes | str, int]]) -> Rootfs:
    """Return a root file system of these entries, without those below what is no directory."""
    rootfs, kinds = Rootfs(), {}
    for place, (kind, content, mode) in sorted(entries.items()):
        parents = [place.rsplit("/", up)[0] for up in range(1, place.count("/") + 1)]
        if any(kinds.get(parent, "directory") != "directory" for parent in parents):
            continue
        kinds[place] = kind
        for parent in reversed(parents):
            if parent not in kinds:
                kinds[parent] = "directory"
                rootfs.directory(parent)
        add: Callable[..., Rootfs] = {"file": rootfs.file, "link": rootfs.link, "directory": rootfs.directory}[kind]
        add(place, *({"file": (content, mode), "link": (content,), "directory": (mode,)}[kind]))
    return rootfs


@settings(max_examples=25)
@given(
    entries=st.dictionaries(PLACE, ENTRY, max_size=12),
    deploy_path=st.lists(TARGET, max_size=3).map(":".join),
    bins=st.lists(NAME, max_size=3).map(":".join),
    path=st.lists(TARGET, max_size=3).map(":".join),
)
def test_a_sif_is_read_like_its_tree(
    entries: dict[str, tuple[str, bytes | str, int]],
    deploy_path: str,
    bins: str,
    path: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    recorded = {"PATH": path, "DEPLOY_PATH": deploy_path, "DEPLOY_BINS": bins}
    tree, packed = both(rootfs_of(entries).file("README.md", "x"), recorded, tmp_path_factory.mktemp("both"))
    assert tree == packed


def test_no_sif(tmp_path: Path) -> None:
    (tmp_path / "a.sif").write_bytes(b"x" * 5000)
    with pytest.raises(ImageError, match="no SIF"):
        inspect_sif(tmp_path / "a.sif", "t", tmp_path / "scratch")


def test_skipped_is_sorted_and_never_a_command(tmp_path: Path) -> None:
    rootfs = (
        Rootfs().file("opt/t/bin/tool").file("opt/u/tool", "data").file("opt/u/zz", "data").file("opt/u/aa", "data")
    )
    found = inspected(rootfs, tmp_path, DEPLOY_PATH="/opt/u:/opt/t/bin", DEPLOY_BINS="tool")
    assert found.commands == ("tool",)
    assert [skipped.name for skipped in found.skipped] == ["aa", "zz"]
    assert isinstance(found.skipped[0], SkippedCommand)


def test_the_version_of_the_images_glibc_is_what_the_library_says(tmp_path: Path) -> None:
    """Held against what this machine's own library says when it is asked."""
    library = next(Path("/lib").glob("*-linux-gnu*/libc.so.6"))
    said = os.confstr("CS_GNU_LIBC_VERSION") or ""
    place = f"lib/{library.parent.name}"
    there = images.base().file(f"{place}/libc-2.so", library.read_bytes()).link(f"{place}/libc.so.6", "libc-2.so")
    assert inspected(there, tmp_path / "one").glibc == said.removeprefix("glibc ")
    away = images.base().link(f"{place}/libc.so.6", "/nowhere/libc.so.6").link("lib64", "/lib")
    assert inspected(away, tmp_path / "two").glibc == ""
    other = images.base().file("lib/libc.so.6", b"GNU C Library, so it says")
    assert inspected(other, tmp_path / "three").glibc == ""


def test_options_that_a_manifest_may_not_ask_for_are_named_when_it_is_deployed(small_sif: Path, tmp_path: Path) -> None:
    heard: list[object] = []
    deployer = Deployer(Root(tmp_path / "root"), "sif", (), heard.append)
    deployer.prepare()
    release = Release("small", "1.0", "20260101")
    declaration = Declaration(release, "small 1.0", 1, (), True, True, ("--pid", "--add-caps=all"))
    deployer.deploy(declaration, Artifact(*digest_of(small_sif)), small_sif)
    assert Noted(release.id, "apptainer_args: --add-caps=all is not allowed, and left out") in heard
    text = deployer.root.release(release).wrapper_body.read_text()
    assert ("--pid" in text, "--add-caps" in text) == (True, False)
