"""What users of both module systems see of a root: the real Lmod, and the real Environment Modules."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from neurocommand import lmodcache, manifesttext, setmodules
from neurocommand.errors import DeployError
from neurocommand.layout import Root
from neurocommand.manifest import Declaration, Defaults
from neurocommand.model import About, DeployRecord, Inspection, Notice, Release
from neurocommand.modulefiles import Modulefiles
from neurocommand.render import module
from neurocommand.render.sets import ModuleSet
from tests.e2e.test_hostile import lmod
from tests.modulesystems import lmod_init, run_with_modules, tcl_init
from tests.users import User

README = (
    '# tool\n\n----\n\n  A tool,   for  brains. It ends ]] or ]===] so; costs $5 {\\n} [exit 1] "\n\n'
    "More: `tool --help`]"
)


@dataclass(frozen=True)
class System:
    """A module system, its tree, and the shell in which it is asked."""

    name: str
    init: Callable[[str], Path]
    tree: str
    home: Path

    def run(self, root: Path, script: str) -> subprocess.CompletedProcess[str]:
        user = User("whoever runs the tests", self.home, root=False)
        return run_with_modules(self.init("bash"), root / self.tree, script, user)

    def said(self, root: Path, script: str) -> str:
        """Return what a script that succeeds writes, with each run of blanks as one."""
        done = self.run(root, script)
        assert done.returncode == 0, done.stderr
        return " ".join((done.stdout + done.stderr).split())

    def listed(self, root: Path, words: str = "") -> list[str]:
        """Return the names that ``avail`` lists, without marks."""
        done = self.run(root, f"module -t avail {words}")
        lines = [re.sub(r"\(.*\)$", "", line) for line in done.stderr.splitlines()]
        return [line for line in lines if line and not line.endswith((":", "/"))]


@pytest.fixture(params=["lmod", "tcl"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> System:
    home = tmp_path / "home"
    home.mkdir()
    if request.param == "lmod":
        return System("lmod", lmod_init, "modules", home)
    return System("tcl", tcl_init, "modules-tcl", home)


class Place:
    """A root in which modules are written as the deployer does, and releases are directories with one command."""

    def __init__(self, path: Path, defaults: Defaults | None = None) -> None:
        self.root = Root(path)
        self.modulefiles = Modulefiles(self.root, defaults=defaults)
        for directory in (self.root.modules, self.root.modules_tcl):
            directory.mkdir(parents=True)

    def deploy(
        self,
        release: Release,
        *,
        categories: Sequence[str] = (),
        environment: Sequence[tuple[str, str]] = (("DIR", "BASEPATH/x"),),
        commands: Sequence[str] = ("bet",),
        **told: Any,
    ) -> None:
        wrappers = self.root.release(release).wrappers
        wrappers.mkdir(parents=True)
        for command in commands:
            (wrappers / command).write_text(f"#!/bin/sh\necho {command} of {release} warm=$NEUROCOMMAND_WARM\n")
            (wrappers / command).chmod(0o755)
        declaration = Declaration(release, f"{release.application} 1", 1, tuple(categories), True, True, (), **told)
        found = Inspection(tuple(commands), (), tuple(environment), README)
        self.modulefiles.write(self.record(release, categories), module.live(declaration, found, "tree"))
        self.modulefiles.renew(release.application)

    def withdraw(self, release: Release, notice: Notice) -> None:
        self.modulefiles.bury(self.record(release), module.tombstone(release, ("body",), notice))
        self.modulefiles.renew(release.application)

    def record(self, release: Release, categories: Sequence[str] = ()) -> DeployRecord:
        return DeployRecord(release, "a" * 64, 1, "tree", ("bet",), tuple(categories), "x")


def tool(version: str, application: str = "tool") -> Release:
    return Release(application, version, "20260102")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Give a root with one version of tool."""
    made = Place(tmp_path / "a root, (moved)")
    made.deploy(
        tool("1.0"),
        categories=["functional imaging", "EEG"],
        about=About('Finds "brains" [exit] $HOME', "https://example.org/?a=$b", "MIT", "Doe (2026)", ("masking",)),
        doi="10.5281/zenodo.1",
    )
    return made


def test_it_is_loaded_and_unloaded(system: System, place: Place) -> None:
    script = (
        'module load tool; bet; echo "<$DIR>"; module unload tool; echo "<${DIR-gone}>"; command -v bet || echo none'
    )
    done = system.run(place.root.path, script)
    assert (done.stderr, done.returncode) == ("", 0)
    directory = place.root.release(tool("1.0")).path
    image = f"{directory}/tool_1.0_20260102.simg/x"
    assert done.stdout.splitlines() == ["bet of tool_1.0_20260102 warm=", f"<{image}>", "<gone>", "none"]


def test_a_root_may_be_moved_and_reached_through_links(system: System, place: Place, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    place.root.path.rename(moved)
    (tmp_path / "link").symlink_to(moved)
    linked = tmp_path / "trees"
    linked.mkdir()
    (linked / system.tree).symlink_to(moved / system.tree)
    (tmp_path / "renamed").symlink_to(moved / system.tree)
    renamed = System(system.name, system.init, "renamed", system.home)
    for way, root in ((system, moved), (system, tmp_path / "link"), (system, linked), (renamed, tmp_path)):
        assert way.said(root, 'module load tool; bet; cd "${DIR%/*/*}" && pwd -P') == (
            f"bet of tool_1.0_20260102 warm= {moved}/containers/tool_1.0_20260102"
        ), root


def test_the_category_trees_lead_to_the_same(place: Place, tmp_path: Path) -> None:
    system = System("lmod", lmod_init, "functional_imaging", tmp_path)
    trees = place.root.categories
    place.deploy(tool("2.0"), categories=["functional imaging"])
    for name, version in (("tool", "2.0"), ("tool/1.0", "1.0"), ("tool/1.0-warm", "1.0")):
        assert f"bet of tool_{version}_20260102" in system.said(trees, f"module load {name}; bet")
    assert system.listed(trees) == ["tool/1.0", "tool/2.0"]
    place.modulefiles.defaults = Defaults({"tool": "1.0"})
    place.modulefiles.renew("tool")
    assert "bet of tool_1.0_20260102" in system.said(trees, "module load tool; bet")
    for release in (tool("1.0"), tool("2.0")):
        place.modulefiles.remove(release)
    assert list(place.root.categories.rglob("*")) == []
    assert list(place.root.modules.rglob("*")) == list(place.root.modules_tcl.rglob("*")) == []


def test_what_people_see(system: System, place: Place) -> None:
    root = place.root.path
    helped = system.run(root, "module help tool").stderr
    for line in README.splitlines():
        assert line in helped
    whatis = system.run(root, "module whatis tool").stderr
    assert [line.split(": ", 1)[1] for line in whatis.strip().splitlines() if ": " in line] == [
        "Name: tool",
        "Version: 1.0",
        "Build date: 20260102",
        "Category: functional imaging, EEG",
        'Description: Finds "brains" [exit] $HOME',
        "URL: https://example.org/?a=$b",
        "Licence: MIT",
        "Citation: Doe (2026)",
        "DOI: 10.5281/zenodo.1",
        "Keywords: masking, bet",
    ]
    for word in ("bet", "masking", "functional"):
        assert "tool/1.0" in system.said(root, f"module keyword {word}")
    assert "tool/1.0" not in system.said(root, "module keyword nothing")
    assert system.listed(root) == ["tool/1.0"]


def test_versions_exclude_and_replace_each_other(system: System, place: Place) -> None:
    place.deploy(tool("2.0"))
    show = "echo $(bet)"
    script = (
        f"module load tool/1.0; {show}; module swap tool/2.0; {show}; module unload tool; command -v bet || echo none"
    )
    done = system.run(place.root.path, script)
    assert done.stdout.splitlines() == ["bet of tool_1.0_20260102 warm=", "bet of tool_2.0_20260102 warm=", "none"]
    two = system.run(place.root.path, f"module load tool/1.0; module load tool/2.0; {show}; module list")
    assert two.stdout.count("bet of") == 1
    loaded = (two.stdout + two.stderr).split("Currently Loaded")[1]
    assert loaded.count("tool/") == 1


@pytest.mark.parametrize(
    ("versions", "defaults", "default"),
    [
        (["2.0.9", "2.0.20"], Defaults(), "2.0.20"),
        (["2.0.9", "2.0.20"], Defaults({"tool": "2.0.9"}), "2.0.9"),
        (["1.0", "2.0"], Defaults(deprecated=frozenset({tool("2.0")})), "1.0"),
        (["1.0", "2.0"], Defaults({"tool": "2.0"}, frozenset({tool("2.0")})), "2.0"),
        (["1.0", "2.0"], Defaults({"tool": "3.0"}), "2.0"),
        (["1.0"], Defaults(deprecated=frozenset({tool("1.0")})), "1.0"),
    ],
)
def test_the_default_version(
    system: System, versions: list[str], defaults: Defaults, default: str, tmp_path: Path
) -> None:
    made = Place(tmp_path / "root", defaults)
    for version in versions:
        made.deploy(tool(version))
    assert f"bet of tool_{default}_20260102" in system.said(made.root.path, "module load tool; bet")


def test_the_newest_build_may_be_the_default(system: System, tmp_path: Path) -> None:
    made = Place(tmp_path / "root", Defaults({"tool": "newest"}))
    for version, day in (("1.0", "20260505"), ("2.0", "20250101")):
        made.deploy(Release("tool", version, day))
    assert "bet of tool_1.0_20260505" in system.said(made.root.path, "module load tool; bet")


def test_a_deprecated_release_says_so_once_when_it_is_loaded(system: System, tmp_path: Path) -> None:
    made = Place(tmp_path / "root")
    made.deploy(tool("1.0"), deprecation=Notice('100% "wrong" [$x]', tool("2.0"), "2026-01-31"))
    said = 'tool/1.0 is deprecated since 2026-01-31: 100% "wrong" [$x]; use tool/2.0 instead'
    done = system.run(made.root.path, "module load tool && bet")
    assert " ".join(done.stderr.split()).count(said) == 1
    assert done.stdout.startswith("bet of tool_1.0")
    for quiet in ("module load tool 2>/dev/null; module unload tool", "module -t avail", "module list"):
        assert "is deprecated" not in system.run(made.root.path, quiet).stderr
    assert "Deprecated: since 2026-01-31" in system.said(made.root.path, "module whatis tool")


def test_a_withdrawn_release_cannot_be_loaded_and_says_why(system: System, place: Place) -> None:
    root, notice = place.root.path, Notice('wrong "results" [exit]', tool("2.0"), "2026-01-31")
    said = 'tool/1.0 is withdrawn since 2026-01-31: wrong "results" [exit]; use tool/2.0 instead'
    loaded_before = system.run(root, f"module load tool; {_buried(place, notice)}; module unload tool; echo $PATH")
    place.withdraw(tool("1.0"), notice)
    for name in ("tool", "tool/1.0", "tool/1.0-warm"):
        done = system.run(root, f"module load {name} || echo failed; command -v bet || echo none")
        assert said in " ".join(done.stderr.split()), name
        assert done.stdout.splitlines() == ["failed", "none"]
    assert "Withdrawn: since 2026-01-31" in system.said(root, "module whatis tool/1.0")
    assert str(root) not in loaded_before.stdout
    place.deploy(tool("0.9"))
    assert "bet of tool_0.9" in system.said(root, "module load tool; bet")
    assert "tool/1.0" in system.said(root, "module keyword withdrawn")


def _buried(place: Place, notice: Notice) -> str:
    """Return shell code that puts tombstones in the place of the modulefiles."""
    aside = place.root.path / "aside"
    made = Place(aside)
    made.withdraw(tool("1.0"), notice)
    return (
        f"cp '{aside}/modules/tool/1.0.lua' '{place.root.path}/modules/tool/1.0.lua';"
        f"cp '{aside}/modules-tcl/tool/1.0' '{place.root.path}/modules-tcl/tool/1.0'"
    )


def test_a_warm_variant_is_the_same_module(system: System, place: Place) -> None:
    root = place.root.path
    assert system.said(root, "module load tool/1.0-warm; bet") == "bet of tool_1.0_20260102 warm=tool"
    script = (
        'module load tool/1.0-warm; module unload tool; echo "<${NEUROCOMMAND_WARM-}>"; command -v bet || echo none'
    )
    assert system.said(root, script) == "<> none"
    place.deploy(tool("0.5", "other"), commands=("cut",))
    both = system.said(root, "module load tool/1.0-warm other/0.5-warm; cut")
    assert both == "cut of other_0.5_20260102 warm=tool:other"
    assert system.listed(root) == ["other/0.5", "tool/1.0"]
    assert "-warm" not in system.said(root, "module keyword bet")


def test_a_release_that_is_gone_is_said(system: System, place: Place) -> None:
    shutil.rmtree(place.root.release(tool("1.0")).path)
    done = system.run(place.root.path, "module load tool")
    assert done.returncode != 0
    assert "tool_1.0_20260102 is not deployed where this modulefile is" in " ".join(done.stderr.split())
    assert system.listed(place.root.path) == ["tool/1.0"]


def test_what_others_put_there_is_neither_the_default_nor_touched(place: Place, tmp_path: Path) -> None:
    theirs = place.root.modules / "tool/9.9.lua"
    theirs.write_text("-- theirs\n")
    place.modulefiles.renew("tool")
    system = System("lmod", lmod_init, "modules", tmp_path)
    assert "bet of tool_1.0" in system.said(place.root.path, "module load tool; bet")
    place.modulefiles.remove(tool("1.0"))
    assert [path for path in place.root.modules.rglob("*") if path.is_file()] == [theirs]


MRI = ModuleSet("mri", (tool("1.0"), tool("0.5", "other")))


def test_a_set_loads_its_members(system: System, place: Place) -> None:
    root = place.root
    assert [(one.id, member) for one, member in setmodules.missing(root, [MRI])] == [("set/mri", MRI.members[1])]
    place.deploy(tool("0.5", "other"), commands=("segment",))
    assert list(setmodules.missing(root, [MRI])) == []
    assert setmodules.write(root, [MRI], None)
    assert not setmodules.write(root, [MRI], None)
    both = ["bet of tool_1.0_20260102 warm=", "segment of other_0.5_20260102 warm="]
    assert system.run(root.path, "module load set/mri; bet; segment").stdout.splitlines() == both
    gone = "module load set/mri; module unload set/mri; command -v bet || command -v segment || echo none"
    assert system.run(root.path, gone).stdout == "none\n"
    assert "Description: Loads tool/1.0, other/0.5." in system.said(root.path, "module whatis set/mri")
    assert system.listed(root.path) == ["other/0.5", "set/mri", "tool/1.0"]
    assert "set/mri" in system.said(root.path, "module keyword other")
    assert setmodules.write(root, [], None)
    assert system.listed(root.path) == ["other/0.5", "tool/1.0"]
    assert not (root.modules / "set").exists()
    assert not (root.modules_tcl / "set").exists()


def test_what_others_call_a_set_is_not_touched(place: Place) -> None:
    theirs = place.root.modules / "set/mri.lua"
    theirs.parent.mkdir()
    theirs.write_text("-- theirs\n")
    with pytest.raises(DeployError, match="not made by neurocommand"):
        setmodules.write(place.root, [MRI], None)
    assert not setmodules.write(place.root, [], None)
    assert theirs.read_text() == "-- theirs\n"


PROGRAMS = (Path("/usr/share/lmod/lmod/libexec"),)


@dataclass(frozen=True)
class Cached:
    """Lmod with the cache of a root; ``reads`` tells which files it opens."""

    root: Path
    home: Path

    def run(self, script: str, tree: str = "modules", *, at: Path | None = None) -> subprocess.CompletedProcess[str]:
        root = at or self.root
        user = User("whoever runs the tests", self.home, root=False)
        environment = {"LMOD_RC": str(root / "lmod/lmodrc.lua"), "LMOD_CACHED_LOADS": "yes"}
        # whatever it is set to, Lmod ignores caches
        script = f"unset LMOD_IGNORE_CACHE\n{script}"
        return run_with_modules(lmod_init("bash"), root / tree, script, user, **environment)

    def reads(self, words: str, tree: str = "modules", *, at: Path | None = None) -> list[str]:
        root = at or self.root
        trace = self.home / "trace"
        done = self.run(f"strace -f -qq -e trace=openat -o '{trace}' $LMOD_CMD bash {words} >/dev/null", tree, at=root)
        assert done.returncode == 0, done.stderr
        opened = re.findall(r'openat\([^"]*"([^"]+)"[^\n]*= [0-9]', trace.read_text())
        # links of categories are read as what they are
        return [name for name in opened if name.startswith(f"{root}/") and "O_DIRECTORY" not in name]


@pytest.fixture
def cached(tmp_path: Path) -> Cached:
    made = Place(tmp_path / "root", Defaults({"tool": "1.0"}))
    for version in ("1.0", "2.0"):
        made.deploy(tool(version), categories=("body",))
    assert lmodcache.build(made.root, PROGRAMS, None) == ""
    (tmp_path / "home").mkdir()
    return Cached(made.root.path, tmp_path / "home")


def modulefiles(names: Sequence[str]) -> list[str]:
    return [name for name in names if name.endswith(".lua") and "/lmod/" not in name and Path(name).is_file()]


@pytest.mark.parametrize("tree", ["modules", "neurodesk-modules/body"])
def test_with_its_cache_lmod_reads_no_modulefile_to_list_them(cached: Cached, tree: str) -> None:
    assert modulefiles(cached.reads("avail", tree)) == []
    assert modulefiles(cached.reads("spider tool", tree)) == []
    listed = cached.run("module -t avail", tree).stderr.split()[1:]
    assert listed == ["tool/", "tool/1.0", "tool/2.0"]
    assert "bet of tool_1.0" in cached.run("module load tool; bet", tree).stdout
    assert cached.run("module load tool/2.0-warm; bet", tree).stdout == "bet of tool_2.0_20260102 warm=tool\n"
    assert "tool/2.0" in cached.run("module keyword bet", tree).stderr


def test_a_cache_goes_before_anything_changes_and_comes_back(cached: Cached) -> None:
    root = Root(cached.root)
    lmodcache.forget(root)
    assert sorted(path.name for path in root.lmod.iterdir()) == ["lmodrc.lua", "timestamp"]
    assert modulefiles(cached.reads("spider tool")) != []
    assert not lmodcache.is_there(root)
    assert lmodcache.build(root, PROGRAMS, None) == ""
    assert lmodcache.is_there(root)
    assert sorted(path.name for path in root.lmod.iterdir()) == ["cache", "lmodrc.lua", "timestamp"]
    assert modulefiles(cached.reads("avail")) == []


def test_a_cache_of_a_root_that_was_moved_does_no_harm(cached: Cached, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    cached.root.rename(moved)
    place = Place.__new__(Place)
    place.root, place.modulefiles = Root(moved), Modulefiles(Root(moved))
    place.deploy(tool("3.0"))
    listed = cached.run("module -t avail", at=moved).stderr.split()[1:]
    assert listed == ["tool/", "tool/1.0", "tool/2.0", "tool/3.0"]
    assert "bet of tool_3.0" in cached.run("module load tool; bet", at=moved).stdout
    lmodcache.forget(place.root)
    assert lmodcache.build(place.root, PROGRAMS, None) == ""
    assert modulefiles(cached.reads("avail", at=moved)) == []


def test_why_a_cache_is_not_built_is_said(place: Place, tmp_path: Path) -> None:
    assert lmodcache.build(place.root, (tmp_path,), None).startswith("Lmod is not installed here")
    assert "takes no such path" in lmodcache.build(place.root, PROGRAMS, None)
    fails = tmp_path / lmodcache.BUILDER
    fails.write_text("#!/bin/sh\necho out of order >&2\nexit 1\n")
    fails.chmod(0o755)
    plain = Place(tmp_path / "root").root
    assert "out of order" in lmodcache.build(plain, (tmp_path,), None)
    assert not lmodcache.is_there(plain)


def every_published(published: Path) -> Iterator[Release]:
    text = (published / "neurodesk-2026-08/apps.json").read_text(encoding="utf-8")
    for declaration in manifesttext.parse(text, "apps.json").declarations:
        yield declaration.release


def test_all_published_releases_are_listed_in_fewer_than_500_lines(
    system: System, published: Path, tmp_path: Path
) -> None:
    made = Place(tmp_path / "root")
    releases = list(every_published(published))
    for release in releases:
        found = Inspection((), (), (), "")
        declaration = Declaration(release, "x 1", 1, (), True, True, ())
        made.modulefiles.write(made.record(release), module.live(declaration, found, "tree"))
    for application in {release.application for release in releases}:
        made.modulefiles.renew(application)
    lines = system.run(made.root.path, "module avail").stderr.splitlines()
    assert len(lines) < 500
    named = {word for word in " ".join(lines).replace("(", " ").split() if "/" in word}
    assert {f"{release.application}/{release.version}" for release in releases} <= named
    assert len(releases) > 380


def default_of(modules: Path, releases: list[Release]) -> dict[str, str]:
    """Return the version of each application that the real Lmod loads when none is named."""
    for release in releases:
        (modules / release.application).mkdir(parents=True, exist_ok=True)
        (modules / release.application / f"{release.version}.lua").write_text("")
    loaded = lmod(modules, "load", *sorted({release.application for release in releases}))["LOADEDMODULES"]
    return dict(module.split("/") for module in loaded.split(":"))


def highest(releases: list[Release]) -> dict[str, str]:
    by_application = defaultdict(list)
    for release in releases:
        by_application[release.application].append(release)
    return {name: max(found, key=lambda r: r.precedence).version for name, found in by_application.items()}


def test_lmod_picks_what_we_mean_for_every_published_application(published: Path, tmp_path: Path) -> None:
    releases = list(every_published(published))
    picked, meant = default_of(tmp_path, releases), highest(releases)
    assert {name: version for name, version in picked.items() if not equal(version, meant[name])} == {}
    assert picked.keys() == meant.keys()


def test_lmod_picks_what_we_mean_for_odd_versions(tmp_path: Path) -> None:
    odd = ["1.0", "1.0.0", "1.0a", "1.0.post1", "1.0.dev3", "1.rc1", "r12", "v2", "2024a", "2024.1", "0.9.gpu", "1.0b2"]
    pairs = [(first, second) for first in odd for second in odd if first < second and not equal(first, second)]
    releases = [Release(f"tool{number}", version, "20260101") for number, pair in enumerate(pairs) for version in pair]
    assert default_of(tmp_path, releases) == highest(releases)


def equal(first: str, second: str) -> bool:
    """Tell whether two versions differ only in trailing zeros, where Lmod's choice is by chance."""
    return re.sub(r"(\.0)+$", "", first) == re.sub(r"(\.0)+$", "", second)
