"""Tags as ``cvmfs_server tag -l -x`` lists them."""

from __future__ import annotations

from neurocommand.tags import Tag, before_last, parse

ROOT = "a2ffd86815c99ef90008b289a782021b61973d0d"
LISTED = f"""v1 {ROOT} 16384 16 1795191532 (default) first release of tool
neurocommand-2026-11-20T10.00.00Z {ROOT} 16384 17 1795191600 (default) added fsl_6.0.4_20210105
neurocommand-2026-11-20T11.00.00Z {ROOT} 16384 19 1795195200 (default)
trunk {ROOT} 16384 20 1795195300 (default) current HEAD
trunk-previous {ROOT} 16384 19 1795195200 (default) default undo target
listing contains 5 tags
"""


def test_the_newest_comes_first_and_what_moves_by_itself_is_no_tag() -> None:
    assert parse(LISTED) == (
        Tag("neurocommand-2026-11-20T11.00.00Z", 19, 1795195200, ""),
        Tag("neurocommand-2026-11-20T10.00.00Z", 17, 1795191600, "added fsl_6.0.4_20210105"),
        Tag("v1", 16, 1795191532, "first release of tool"),
    )


def test_the_publication_before_the_last_one_undoes_it() -> None:
    found = before_last(parse(LISTED))
    assert found is not None
    assert found.name == "neurocommand-2026-11-20T10.00.00Z"


def test_one_publication_has_none_before_it() -> None:
    assert before_last(parse("\n".join(LISTED.splitlines()[:2]))) is None
    assert before_last(()) is None
