"""Warm calls: one container of a release kept running for a session, entered by later calls, and gone afterwards."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from neurocommand.image import sif
from neurocommand.image.tree import normalise
from neurocommand.model import Format, Release
from neurocommand.render.runtimeoptions import Options, allowed
from neurocommand.render.wrapper import bodies, wrapper
from neurocommand.settings import WrapperSettings
from tests.users import User

RELEASE = Release("small", "1.0", "20260102")
COMMANDS = ("smallhello", "smallexit", "smallargs", "smallsh")

# Shell functions for the scripts below. A call is warm when the command is the caller's own child: a cold one's parent
# is the runtime.
START = """
export NEUROCOMMAND_WARM=1
is_warm() { [ "$(smallsh -c 'echo $PPID; :')" = $$ ]; }
held() { sed -n "s/^nc_held='\\([0-9]*\\)'/\\1/p" "$XDG_RUNTIME_DIR"/neurocommand/*/state; }
heat() { smallhello >/dev/null; for n in $(seq 100); do is_warm && return; sleep 0.1; done; echo never warm; exit 9; }
"""


@dataclass
class Warm:
    """The small image deployed, and an ordinary user with the directory of that user's holders."""

    user: User
    root: Path

    @property
    def release(self) -> Path:
        return self.root / "containers" / RELEASE.id

    @property
    def place(self) -> Path:
        return self.runtime / "neurocommand"

    @property
    def runtime(self) -> Path:
        """XDG_RUNTIME_DIR, so that holders of other tests are elsewhere."""
        return self.user.home / "run"

    @property
    def uid(self) -> int:
        return self.user.home.stat().st_uid

    def write(self, settings: WrapperSettings, options: Options = Options()) -> None:  # noqa: B008
        image_format: Format = "sif" if (self.release / f"{RELEASE.id}.simg").is_file() else "tree"
        for name, text in bodies(RELEASE, image_format, settings, options, "").items():
            (self.release / name).write_text(text)

    def command(self, script: str) -> list[str]:
        """Return the command line of a session of its own that runs a script."""
        path = f"{self.release}/bin:{os.environ['PATH']}"
        settings = [f"PATH={path}", f"XDG_RUNTIME_DIR={self.runtime}"]
        return ["setsid", "--wait", "env", *settings, "bash", "-c", START + script]

    def session(self, script: str, **options: object) -> str:
        """Run a script in a session of its own; it must succeed, and say nothing but what it is asked for."""
        done = self.user.run(self.command(script), **options)  # type: ignore[arg-type]
        assert (done.returncode, done.stderr.decode()) == (0, ""), done.stdout.decode()
        text: str = done.stdout.decode()
        return text

    def holders(self) -> list[str]:
        """Return the command lines of this user's holders."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                mine = process.stat().st_uid == self.uid
            except OSError:
                continue
            if mine and "holder.sh" in line and "--environment" not in line and str(self.root) in line:
                found.append(line)
        return found

    def wait_for_end(self, seconds: float = 20) -> None:
        """See that every holder ends, and leaves nothing."""
        deadline = time.monotonic() + seconds
        while self.holders() or list(self.place.glob("*")):
            assert time.monotonic() < deadline, (self.holders(), list(self.place.rglob("*")))
            time.sleep(0.2)


@pytest.fixture(scope="module", params=["sif", pytest.param("tree", marks=pytest.mark.full)])
def warm(request: pytest.FixtureRequest, small_sif: Path, ordinary_user: User) -> Iterator[Warm]:
    made = Warm(ordinary_user, ordinary_user.home / f"warm {request.param}")
    (made.release / "bin").mkdir(parents=True)
    image = made.release / f"{RELEASE.id}.simg"
    if request.param == "tree":
        sif.unpack(small_sif, image)
        normalise(image, ())
    else:
        shutil.copyfile(small_sif, image)
    for command in COMMANDS:
        path = made.release / "bin" / command
        path.write_text(wrapper(RELEASE, command))
        path.chmod(0o755)
    made.write(WrapperSettings())
    made.user.give(made.root)
    made.runtime.mkdir(mode=0o700)
    made.user.give(made.runtime)
    yield made
    made.wait_for_end()
    shutil.rmtree(made.runtime)
    shutil.rmtree(made.root)


def test_later_calls_enter_what_the_first_one_started_and_all_is_gone_after_the_session(warm: Warm) -> None:
    script = """
    smallargs first; heat
    smallargs 'a b' '*' ''; smallexit 42; echo $?; echo in | smallsh -c 'cat; echo error >&2' 2>&1
    is_warm && echo warm; ls "$0" | wc -l
    """
    text = warm.session(script.replace("$0", str(warm.place)))
    assert text.splitlines() == ["<first>", "<a b>", "<*>", "<>", "42", "in", "error", "warm", "1"]
    warm.wait_for_end()


def test_a_hundred_first_calls_start_one_holder(warm: Warm) -> None:
    script = """
    seq 100 | xargs -P 100 -n 1 smallargs | sort -V
    for n in $(seq 100); do is_warm && break; sleep 0.1; done
    pgrep -u $(id -u) -f 'containers/.*/holder[.]sh ' | wc -l
    """
    lines = warm.session(script, timeout=300).splitlines()
    assert lines == [*(f"<{number}>" for number in range(1, 101)), "1"]
    warm.wait_for_end()


def test_a_killed_holder_is_not_entered_and_the_next_call_starts_another(warm: Warm) -> None:
    script = """
    heat; first=$(held)
    kill -9 $first; smallargs cold; is_warm && echo "entered a dead one"
    heat; nc_held=$(held); [ $nc_held != $first ] && echo another
    pkill -9 -u $(id -u) -f 'containers/.*/holder[.]sh '; sleep 4
    [ -e /proc/$nc_held ] || echo the container ended with its holder
    smallargs again
    """
    text = warm.session(script.replace("$0", str(warm.place)))
    assert text.splitlines() == ["<cold>", "another", "the container ended with its holder", "<again>"]
    time.sleep(1)  # the last call may just have had one started
    shutil.rmtree(warm.place, ignore_errors=True) if not warm.holders() else warm.wait_for_end()


def test_a_killed_holder_takes_no_command_along(warm: Warm) -> None:
    script = """
    heat; nc_held=$(held); smallsh -c 'sleep 5; head -n 1 /README.md' & sleep 0.5
    pkill -9 -u $(id -u) -f 'containers/.*/holder[.]sh '; wait $!; sleep 4
    [ -e /proc/$nc_held ] || echo the container ended with its last command
    """
    assert warm.session(script).splitlines() == ["# small", "the container ended with its last command"]
    shutil.rmtree(warm.place)


@pytest.mark.parametrize("fault", ["time", "owner", "nobody"])
def test_what_is_no_holder_of_the_callers_is_never_entered(fault: str, warm: Warm) -> None:
    changes = {
        # a process of the same number that began at another time
        "time": "s/nc_held_born=[0-9]*/nc_held_born=1/",
        # a process of somebody else's, with its right time
        "owner": "s/^nc_held=.*/nc_held='1'/; s/nc_held_born=[0-9]*/nc_held_born=$1/",
        "nobody": "s/^nc_held=.*/nc_held=999999999/",
    }
    script = f"""
    heat; D=$(ls -d {warm.place}/*.1); cp $D/state ~/state
    read -r stat </proc/1/stat; set -- ${{stat##*) }}; shift 19
    sed "{changes[fault]}" ~/state >$D/state  # in place, since its holder has it open
    is_warm && echo entered; smallargs x
    cp ~/state $D/state 2>/dev/null; is_warm && echo warm; rm -f ~/state
    """
    assert warm.session(script) == "<x>\nwarm\n"
    warm.wait_for_end()


def test_only_a_state_that_a_holder_of_the_callers_own_has_open_is_taken(warm: Warm) -> None:
    """Others may exchange what a name in /tmp leads to, and mount what shows files of anybody's there (FUSE)."""
    script = f"""
    eval "$(sed -n '/^take() /,/^}}/p' '{warm.release}/warm.sh')"
    nc_place=$HOME/holders; mkdir -p "$nc_place/below"; cd "$nc_place"; touch own unheld script elsewhere fd5
    hold() {{ (cd "$2" && exec sleep 20 6<"$nc_place/$1") >/dev/null & }}
    state() {{ printf '%s\n' "# holder of {RELEASE} $1" "echo taken" >$2; }}
    hold own . && state $! own && state $! unheld && own=$!; ln -s own link
    (exec sleep 20 5<fd5) >/dev/null & state $! fd5; five=$!
    hold elsewhere below && state $! elsewhere; below=$!
    hold script . && echo "echo taken" >script; script=$!
    state "self/../$own" words; state "" nobody; state 1 init; sleep 0.3
    for name in own link unheld fd5 elsewhere script words nobody init missing; do take $name || echo not $name; done
    kill $own $five $below $script; sleep 0.2; take own || echo not any more; cd; rm -r "$nc_place"
    """
    lines = ["taken", "taken", *(f"not {name}" for name in ("unheld", "fd5", "elsewhere", "script"))]
    lines += ["not words", "not nobody", "not init", "not missing", "not any more"]
    for shell in ("dash", "bash", "busybox sh"):
        assert warm.user.run([*shell.split(), "-c", script]).stdout.decode().splitlines() == lines, shell


def test_places_of_sites_whose_directories_hand_their_group_down(warm: Warm) -> None:
    script = """
    mkdir ~/scratch; chmod 2700 ~/scratch; export XDG_RUNTIME_DIR=$HOME/scratch; heat; is_warm && echo warm
    mkdir ~/scratch/cwd; cd ~/scratch/cwd; XDG_RUNTIME_DIR=. smallhello; sleep 0.5; ls; cd ~; rm -r scratch
    """
    assert warm.session(script).splitlines() == ["warm", "hello"]
    warm.wait_for_end()


def test_a_call_that_was_stopped_while_its_holder_ended_does_not_enter(warm: Warm) -> None:
    script = f"""
    eval "$(sed -n '/^tell() /,/^}}/p' '{warm.release}/warm.sh')"
    nc_dir=$HOME/told; mkdir "$nc_dir"; touch "$nc_dir/used"
    (exec sleep 20 5<"$nc_dir/used") >/dev/null & nc_held_holder=$!; sleep 0.3
    tell in time && echo told; printf() {{ mv "$nc_dir" "$nc_dir.ending"; command printf "$@"; }}
    tell late || echo late; kill $nc_held_holder; cat "$nc_dir.ending/used"; rm -r "$nc_dir.ending"
    """
    for shell in ("dash", "bash", "busybox sh"):
        done = warm.user.run([*shell.split(), "-c", script])
        assert done.stdout.decode().splitlines() == ["told", "late", "in", "late"], shell


def test_a_holder_works_in_no_place_that_is_a_mount(warm: Warm) -> None:
    """Who may mount (FUSE, allow_other) could show a directory of the caller's, and other files at each look."""
    script = f"""
    mkdir -m 700 ~/run/holders && mount -t tmpfs -o mode=700 tmpfs ~/run/holders
    mkdir ~/run/holders/{RELEASE}-1-1.lock
    NEUROCOMMAND_KEY=k sh '{warm.release}/holder.sh' ~/run/holders {RELEASE}-1-1 60 / '{warm.release}' touch ~/started
    echo $?; ls -d ~/started ~/run/holders/*/* 2>/dev/null; umount ~/run/holders; rmdir ~/run/holders
    """
    done = warm.user.run(["unshare", "-rm", "sh", "-c", script])
    assert (done.stdout, done.stderr) == (b"1\n", b"")


def test_a_replaced_image_is_not_entered_any_more(warm: Warm) -> None:
    image = warm.release / f"{RELEASE.id}.simg"
    script = f"""
    heat; cp -a '{image}' '{image}.new'; mv '{image}' '{image}.old'; mv '{image}.new' '{image}'; rm -rf '{image}.old'
    is_warm && echo "entered the old one"; heat; is_warm && echo warm
    """
    assert warm.session(script) == "warm\n"
    warm.wait_for_end()


def test_binds_that_are_relative_or_made_anew_and_variables_by_option(warm: Warm) -> None:
    script = """
    mkdir -p ~/A ~/B ~/bound; echo A >~/A/f; echo B >~/B/f; echo old >~/bound/f
    heat; cd ~/A; export APPTAINER_BINDPATH=.:/mnt; smallsh -c 'cat /mnt/f'; sleep 1
    cd ~/B; smallsh -c 'cat /mnt/f'; cd ~
    export APPTAINER_BINDPATH=$HOME/bound:/mnt; heat; smallsh -c 'cat /mnt/f'
    mv ~/bound ~/away; mkdir ~/bound; echo new >~/bound/f; smallsh -c 'cat /mnt/f'; unset APPTAINER_BINDPATH
    export neurodesk_singularity_opts=--env=OMP_NUM_THREADS=2 OMP_NUM_THREADS=8
    for n in 1 2; do smallsh -c 'echo $OMP_NUM_THREADS'; sleep 1; done; rm -rf ~/A ~/B ~/bound ~/away
    """
    assert warm.session(script).splitlines() == ["A", "B", "old", "new", "2", "2"]
    warm.wait_for_end()


def test_no_value_stands_on_a_command_line(warm: Warm) -> None:
    script = """
    export APPTAINERENV_TOKEN=hunter$((1 + 1))
    (for n in $(seq 400); do cat /proc/[0-9]*/cmdline; sleep 0.01; done 2>/dev/null) | tr '\\0' ' ' >~/seen &
    heat; smallsh -c 'echo $TOKEN'; kill $!; grep -c "hunter$((1 + 1))" ~/seen; rm ~/seen
    """
    assert warm.session(script).splitlines() == ["hunter2", "0"]
    warm.wait_for_end()


def test_a_command_that_moves_to_namespaces_of_its_own_keeps_its_image(warm: Warm) -> None:
    conf = warm.user.home / "wrapper.conf"
    conf.write_text("warm-idle 1\n")
    script = f"""
    export NEUROCOMMAND_WRAPPER_CONF={conf}; heat
    smallsh -c 'exec /bin/busybox unshare -U -r -m /bin/sh -c "sleep 7; cat /README.md" | head -1'
    """
    assert warm.session(script) == "# small\n"
    warm.wait_for_end()


def test_a_directory_that_somebody_else_made_is_not_used(warm: Warm) -> None:
    if not warm.user.root:
        pytest.skip("makes a directory of root's, so it runs as root only")
    shutil.rmtree(warm.place, ignore_errors=True)
    warm.place.mkdir(mode=0o777)
    warm.place.chmod(0o777)
    try:
        assert warm.session("smallargs x; sleep 1; is_warm || echo cold") == "<x>\ncold\n"
        assert list(warm.place.iterdir()) == []
    finally:
        shutil.rmtree(warm.place)


def test_it_ends_after_an_idle_time_but_never_under_a_command_that_runs(warm: Warm) -> None:
    conf = warm.user.home / "wrapper.conf"
    conf.write_text("warm-idle 2\n")
    script = f"""
    export NEUROCOMMAND_WRAPPER_CONF={conf}
    heat; smallsh -c 'sleep 7; cat /README.md | head -1'
    sleep 6; pgrep -u $(id -u) -f 'containers/.*/holder[.]sh ' || echo ended
    smallargs x
    """
    assert warm.session(script).splitlines() == ["# small", "ended", "<x>"]
    warm.wait_for_end()


def test_a_command_outlives_the_session_that_started_it(warm: Warm) -> None:
    out = warm.user.home / "outlives"
    out.unlink(missing_ok=True)
    warm.session(f"heat; nohup smallsh -c 'sleep 6; cat /README.md' >{out} 2>/dev/null </dev/null &\nsleep 1")
    warm.wait_for_end(30)
    assert out.read_text().startswith("# small\n"), "its image was there until the end"


ASIDE = {
    "its leader is dead": "setsid sh -c 'sh -c \"$0\" &'",
    "its leader is in an outer process namespace": "unshare --user --map-current-user --pid --fork --mount-proc sh -c",
}


@pytest.mark.parametrize("start", ASIDE.values(), ids=ASIDE.keys())
def test_where_nobody_sees_the_sessions_leader_the_oldest_ancestor_takes_its_part(start: str, warm: Warm) -> None:
    out = warm.user.home / "aside"
    out.unlink(missing_ok=True)
    seen = 'heat; is_warm && ls "$XDG_RUNTIME_DIR/neurocommand" | wc -l'
    script = f"{{ {START}\n{seen}; }} >{out}.new 2>&1; mv {out}.new {out}"
    warm.session(f"{start} {shlex.quote(script)}\nfor n in $(seq 200); do [ ! -e {out} ] || break; sleep 0.1; done")
    assert out.read_text() == "1\n", "one container, for calls of several processes"
    warm.session("heat")  # the next one clears away what was killed with its process namespace
    warm.wait_for_end()


def test_a_limit_of_file_sizes_ends_no_call(warm: Warm) -> None:
    script = """
    heat; seq -f "0 %g" 1000 >>"$(echo "$XDG_RUNTIME_DIR"/neurocommand/*/used)"
    (ulimit -f 8; smallhello; echo code $?); is_warm && echo warm
    """
    assert warm.session(script).splitlines() == ["hello", "code 0", "warm"]
    warm.wait_for_end()


def test_where_nothing_can_be_written_any_more_commands_keep_their_image(warm: Warm) -> None:
    script = """
    heat; D=$(echo "$XDG_RUNTIME_DIR"/neurocommand/*.1)
    smallsh -c 'sleep 7; head -n 1 /README.md' & sleep 0.5
    chmod 500 "$D"; echo stale >>"$D/used"; sleep 4; chmod 700 "$XDG_RUNTIME_DIR"/neurocommand/*; wait $!
    """
    assert warm.session(script) == "# small\n"
    warm.wait_for_end()


def test_a_holder_whose_directory_is_gone_ends_after_its_commands(warm: Warm) -> None:
    script = """
    heat; smallsh -c 'sleep 7; head -n 1 /README.md' & sleep 0.5
    rm -r "$XDG_RUNTIME_DIR"/neurocommand/*; heat; is_warm && echo another; wait $!; sleep 4
    pgrep -u $(id -u) -f 'containers/.*/holder[.]sh ' | wc -l
    """
    assert warm.session(script).splitlines() == ["another", "# small", "1"]
    warm.wait_for_end()


def test_what_is_remembered_of_calls_does_not_grow_for_ever(warm: Warm) -> None:
    script = """
    heat; used=$(echo "$XDG_RUNTIME_DIR"/neurocommand/*/used); seq -f "0 %g" 5000 >>"$used"
    for n in $(seq 100); do [ -s "$used" ] || break; sleep 0.1; done
    is_warm && wc -l <"$used"
    """
    assert warm.session(script) == "1\n"
    warm.wait_for_end()


def test_a_container_that_could_not_be_started_once_is_tried_again_after_a_while(warm: Warm) -> None:
    place = warm.user.home / "fails once"
    place.mkdir()
    (place / "failing").touch()
    (place / "wrapper.conf").write_text("warm-idle 4\n")
    runtime = shutil.which("apptainer")
    script = f'case "$*" in *nc_end*) rm "$(dirname "$0")/failing" 2>/dev/null && exit 255 ;; esac; exec {runtime} "$@"'
    (place / "apptainer").write_text(f"#!/bin/sh\n{script}\n")
    (place / "apptainer").chmod(0o755)
    warm.user.give(place)
    session = f"""
    PATH="{place}:$PATH"; export NEUROCOMMAND_WRAPPER_CONF="{place}/wrapper.conf"
    smallhello; sleep 2; is_warm || echo cold; heat && echo warm
    """
    assert warm.session(session).splitlines() == ["hello", "cold", "warm"]
    assert not (place / "failing").exists()
    warm.wait_for_end()
    shutil.rmtree(place)


def test_a_container_of_another_mount_namespace_is_not_entered(warm: Warm) -> None:
    script = """
    mkdir -p ~/A ~/B; echo A >~/A/f; echo B >~/B/f; cd /tmp
    inside() { mount --bind ~/B ~/A; heat; smallsh -c 'cat ~/A/f'; is_warm && echo warm; }
    export -f inside heat is_warm
    unshare --user --map-current-user --keep-caps --mount bash -c inside
    smallsh -c 'cat ~/A/f'; is_warm || echo cold; rm -r ~/A ~/B
    """
    assert warm.session(script).splitlines() == ["B", "warm", "A", "cold"]
    warm.wait_for_end()


def test_what_a_killed_holder_remembered_is_forgotten(warm: Warm) -> None:
    script = """
    mkdir -p "$XDG_RUNTIME_DIR"/neurocommand; chmod 700 "$XDG_RUNTIME_DIR"/neurocommand
    mkdir "$XDG_RUNTIME_DIR"/neurocommand/small_1.0_20260102-1-1.lock; export APPTAINERENV_BASH_X=1; smallhello
    for n in $(seq 50); do grep -qs "^nc_held=''" "$XDG_RUNTIME_DIR"/neurocommand/*/state && break; sleep 0.1; done
    pkill -9 -u $(id -u) -f 'containers/.*/holder[.]sh '; sleep 0.5; first=$(echo "$XDG_RUNTIME_DIR"/neurocommand/*.1)
    before=$(head -n 1 "$first/state"); smallhello; sleep 2; [ "$(head -n 1 "$first/state")" = "$before" ] || echo anew
    """
    assert warm.session(script).splitlines() == ["hello", "hello", "anew"]
    warm.wait_for_end()


@pytest.mark.parametrize("cause", ["APPTAINERENV_BASH_X=1", "NSENTER=1"], ids=["environment", "nsenter"])
def test_a_container_that_no_call_can_enter_is_started_once(cause: str, warm: Warm) -> None:
    """An environment that no shell can have, or a host that lets nobody in."""
    script = """
    mkdir ~/counted; ln -s "$(command -v apptainer)" ~/counted/real
    printf '#!/bin/sh\necho "$*" >>~/counted/log\nexec ~/counted/real "$@"\n' >~/counted/apptainer
    printf '#!/bin/sh\nexit 1\n' >~/counted/nsenter; [ "${cause#NSENTER}" = "$cause" ] || chmod +x ~/counted/nsenter
    chmod +x ~/counted/apptainer; PATH="$HOME/counted:$PATH"; export "$cause"
    for n in 1 2 3; do smallhello; sleep 2; done; grep -c 'read -r nc_end' ~/counted/log; rm -r ~/counted
    """
    assert warm.session(f"cause={cause}\n{script}").splitlines() == ["hello", "hello", "hello", "1"]
    warm.wait_for_end()


def test_a_holder_whose_directory_goes_while_its_container_starts_gives_up_at_once(warm: Warm) -> None:
    script = """
    mkdir ~/slow; touch ~/slow/failing; ln -s "$(command -v apptainer)" ~/slow/real
    echo '#!/bin/sh
    case "$*" in *nc_end*) rm ~/slow/failing 2>/dev/null && rm -r ~/run/neurocommand/*.1 && cat >/dev/null &&
    exit ;; esac
    exec ~/slow/real "$@"' >~/slow/apptainer; chmod +x ~/slow/apptainer; PATH="$HOME/slow:$PATH"
    smallhello; sleep 1; [ ! -e ~/slow/failing ] && heat && echo warm; rm -r ~/slow
    """
    assert warm.session(script).splitlines() == ["hello", "warm"]
    warm.wait_for_end()


def test_a_link_to_nowhere_on_the_images_path_hides_no_program(warm: Warm) -> None:
    script = """
    mkdir ~/first; ln -s /nowhere ~/first/smallhello; ln -s /bin/busybox ~/first/smallwords
    export APPTAINERENV_PREPEND_PATH=$HOME/first; heat; smallhello; echo $?; is_warm && echo warm
    nc_held=$(held); eval "$(sed -n '/^find_program() /,/^}/p' "$(dirname "$(command -v smallhello)")/../warm.sh")"
    nc_cwd=$PWD nc_blanks=' '; nc_held_path=$HOME/first:$HOME/first:/bin:/bin:
    for nc_command in smallhello smallwords smallsh sh; do find_program && echo "$nc_program"; done
    # two names of one directory: it is called by the first
    nc_held_path=$HOME/first:$HOME/first:$HOME/./first:$HOME/first:; nc_command=smallhello
    find_program && echo "$nc_program"
    rm -r ~/first
    """
    links = [f"{warm.user.home}/first/{name}" for name in ("smallhello", "smallwords")]
    assert warm.session(script).splitlines() == ["hello", "0", "warm", *links, "/bin/sh", links[0]]
    warm.wait_for_end()


def test_a_directory_of_the_images_path_may_be_a_link_that_leads_elsewhere_outside(warm: Warm) -> None:
    script = """
    mkdir ~/real; printf '#!/bin/sh\necho real\n' >~/real/smallhello; chmod +x ~/real/smallhello
    ln -s /opt/inner ~/first; export APPTAINER_BINDPATH=$HOME/real:/opt/inner APPTAINERENV_PREPEND_PATH=$HOME/first
    NEUROCOMMAND_WARM=0 smallhello; heat; smallhello; is_warm && echo warm; rm -r ~/real ~/first
    """
    assert warm.session(script).splitlines() == ["real", "real", "warm"]
    warm.wait_for_end()


def test_other_options_binds_and_directories_have_holders_of_their_own(warm: Warm) -> None:
    place = Path(f"/dev/shm/neurocommand-test-{os.getpid()}")
    for name in ("one", "two"):
        (place / name).mkdir(parents=True, exist_ok=True)
    warm.user.give(place)
    script = f"""
    heat; cd {place}/one; is_warm && echo "entered one that does not show this directory"
    heat; smallsh -c pwd; touch file; smallsh -c 'ls'
    cd ~; APPTAINER_BINDPATH={place}/two smallsh -c 'ls -d {place}/two'
    export APPTAINERENV_EXTRA='a  b'; heat; smallsh -c 'echo "$EXTRA"'
    unset APPTAINERENV_EXTRA; smallsh -c 'echo "[$EXTRA]"'
    is_warm && echo warm
    export neurodesk_singularity_opts=--writable-tmpfs; smallhello; sleep 1; is_warm || echo "cold, since it writes"
    """
    expected = [f"{place}/one", "file", f"{place}/two", "a  b", "[]", "warm", "hello", "cold, since it writes"]
    try:
        assert warm.session(script).splitlines() == expected
    finally:
        shutil.rmtree(place)
    warm.wait_for_end()


def test_what_the_first_caller_has_open_is_closed(warm: Warm) -> None:
    """Whoever reads a pipe to its end must not wait for a holder that keeps its other end open."""
    script = """
    heat_all() { (smallhello 5>&1 20>&1 30<&0) | cat; for n in $(seq 50); do is_warm && break; sleep 0.1; done; }
    time1=$(date +%s); heat_all; is_warm && echo warm; [ $(($(date +%s) - time1)) -lt 20 ] && echo at once
    """
    started = time.monotonic()
    assert warm.session(script).splitlines() == ["hello", "warm", "at once"]
    assert time.monotonic() - started < 60
    warm.wait_for_end()


def test_where_there_is_no_user_namespace_calls_stay_cold_without_a_word(warm: Warm, tmp_path: Path) -> None:
    """A set-uid runtime makes none; this one stands for it: it runs the command where it is."""
    runtime = warm.user.home / "apptainer-setuid"
    runtime.write_text('#!/bin/sh\nwhile [ "${1%.simg}" = "$1" ]; do shift; done\nshift\n'
                       'case $1 in small*) shift; echo direct "$@" ;; *) exec "$@" ;; esac\n')  # fmt: skip
    runtime.chmod(0o755)
    script = f"""
    export NEUROCOMMAND_RUNTIME={runtime}
    smallargs 1; sleep 1; smallargs 2; smallargs 3; grep -c "^nc_held=''" {warm.place}/*/state
    """
    assert warm.session(script).splitlines() == ["direct 1", "direct 2", "direct 3", "1"]
    warm.wait_for_end(5)


def test_on_a_publisher_no_holder_is_started(warm: Warm) -> None:
    """It would keep the repository mounted: seen in a mount namespace whose /etc is that of a publisher."""
    script = f"""
    mount -t tmpfs tmpfs /etc && mkdir -p /etc/cvmfs/repositories.d/x && touch /etc/cvmfs/repositories.d/x/server.conf
    mkdir -m 700 ~/holders; mkdir ~/holders/{RELEASE}-1-1.lock
    NEUROCOMMAND_KEY=k sh '{warm.release}/holder.sh' ~/holders {RELEASE}-1-1 60 / '{warm.release}' touch ~/started
    ls -d ~/started ~/holders/* 2>/dev/null; rmdir ~/holders
    """
    done = warm.user.run(["unshare", "-rm", "sh", "-c", script])
    assert (done.stdout, done.stderr) == (b"", b"")


def test_the_setting_the_variable_and_the_module_decide(warm: Warm) -> None:
    warm.write(WrapperSettings(warm=True))
    try:
        script = "smallhello; for n in $(seq 50); do is_warm && break; sleep 0.1; done; is_warm && echo warm"
        assert warm.session("unset NEUROCOMMAND_WARM;" + script) == "hello\nwarm\n"
        warm.wait_for_end()
        assert warm.session("export NEUROCOMMAND_WARM=0; smallhello; sleep 1; is_warm || echo cold") == "hello\ncold\n"
    finally:
        warm.write(WrapperSettings())
    assert warm.session("export NEUROCOMMAND_WARM=fsl:small;" + script) == "hello\nwarm\n"
    warm.wait_for_end()
    other = "export NEUROCOMMAND_WARM=fsl:smaller; smallhello; sleep 1; is_warm || echo cold"
    assert warm.session(other) == "hello\ncold\n"


def test_options_of_the_manifest_that_are_a_calls_own_keep_it_cold(warm: Warm) -> None:
    warm.write(WrapperSettings(), allowed(["--writable-tmpfs"]))
    try:
        assert warm.session("smallhello; sleep 1; is_warm || echo cold") == "hello\ncold\n"
    finally:
        warm.write(WrapperSettings())
    assert not warm.holders()


def test_programs_of_the_host_may_be_in_a_directory_of_any_name(warm: Warm) -> None:
    script = """
    D="$HOME/it's a bin;x"; mkdir -p "$D" bin; printf '#!/bin/sh\necho PWNED >&2\n' | tee bin/env >bin/setpriv
    for name in env setpriv nsenter; do cp "$(command -v $name)" "$D"; done; chmod +x bin/*
    PATH="$D:$PATH"; heat; is_warm && echo warm; bash --posix "$(command -v smallargs)" x; rm -r "$D" bin
    """
    assert warm.session(script) == "warm\n<x>\n"
    warm.wait_for_end()


def test_under_bash_as_sh_nothing_of_the_callers_environment_comes_along(warm: Warm) -> None:
    """Bash hands down functions, and names that no variable can have; RHEL's sh is bash."""
    tool = f"{warm.release}/bin/smallsh"
    script = f"""
    heat; export LANG=C.UTF-8
    hidden() {{ :; }}; export -f hidden; export lower=1 SHLVL=5
    for shell in dash 'bash --posix' 'busybox sh'; do
        env 'FOO-BAR=1' 'a.b=2' NEUROCOMMAND_WARM=0 $shell '{tool}' -c 'env -0 | sort -z | od -c' >~/cold
        env 'FOO-BAR=1' 'a.b=2' $shell '{tool}' -c 'env -0 | sort -z | od -c' >~/warm
        cmp ~/cold ~/warm && echo same
    done
    """
    assert warm.session(script) == "same\nsame\nsame\n"
    subprocess.run(["rm", "-f", str(warm.user.home / "cold"), str(warm.user.home / "warm")], check=True)
    warm.wait_for_end()
