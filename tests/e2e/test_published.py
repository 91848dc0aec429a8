"""The published manifests through the whole command."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.world import World

COUNTS = {
    "neurodesk-2026-08": "228 groups, 384 releases, 120 launchers, 0 errors\n",
    "neurodesk-2025-06": "104 groups, 199 releases, 80 launchers, 0 errors\n",
}


@pytest.mark.parametrize("edition", COUNTS)
def test_check_and_list(published: Path, world: World, edition: str) -> None:
    manifest = str(published / edition / "apps.json")
    done = world.run("check", manifest)
    assert (done.code, done.out) == (0, COUNTS[edition])
    assert done.err.count("warning: ") == 1
    for form, name in (("log", "log.txt"), ("applist", "applist.json")):
        listed = world.run("list", "--manifest", manifest, "--format", form)
        assert listed.out.encode() == (published / edition / name).read_bytes()
    ants = [
        line.split()[0] for line in (published / edition / "log.txt").read_text().splitlines() if "ants_" in line[:5]
    ]
    listed = json.loads(world.run("list", "ants", "--manifest", manifest, "--json").out)
    assert [entry["id"] for entry in listed] == ants
    diffusion = json.loads(world.run("list", "diffusion", "--manifest", manifest, "--json").out)
    assert diffusion
    assert all("diffusion" in json.dumps([entry["application"], entry["categories"]]) for entry in diffusion)


def test_a_plan_for_two_empty_stores_converts_everything(published: Path, world: World) -> None:
    world.configure("[{name: a, kind: directory, path: a}, {name: b, kind: directory, path: b}]")
    world.config.write_text(world.config.read_text().replace("publish: {root: root}\n", ""))
    before = os.listdir(world.path)
    planned = json.loads(world.run("plan", "--manifest", str(published / "neurodesk-2026-08/apps.json"), "--json").out)
    assert Counter(action["action"] for action in planned["actions"]) == {"convert": 384, "upload": 768}
    assert all(action["reason"] for action in planned["actions"])
    assert len({action["release"] for action in planned["actions"]}) == 384
    assert planned["problems"] == []
    assert os.listdir(world.path) == before
