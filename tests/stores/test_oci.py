"""The store of kind oci beyond the contract: Apptainer reads it and writes it, log-ins, referrers, going on."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from neurocommand.errors import ImmutableError, StoreError, StoreFullError, TransientStoreError
from neurocommand.files import digest_of
from neurocommand.model import Artifact, StoredObject
from neurocommand.registrysession import IMAGE_MANIFEST, INDEX
from neurocommand.settings import Credentials, RegistrySettings
from neurocommand.stores.interface import Link
from neurocommand.stores.oci import OciStore
from tests.images import SMALL_ENVIRONMENT, oci_layout, run, small
from tests.servers import Answer, Registry, Request, Respond, WebServer, forward_to, oci_registry, push_sif

KEY = "small_1.0_20250101.simg"
TAG = "small_1.0_20250101"
MIB = 1 << 20
# The line of `htpasswd -Bbn ci s3cret`; the registry takes bcrypt only.
HTPASSWD = "ci:$2y$05$/9aeHZKlVfVHAVw6ZLM5bOqiXYCJf6e5lq1aBc7BMsX9dcFYC1xvO"

Serve = Callable[[Respond], WebServer]


def nothing(done: int) -> None:
    pass


def store_on(host: str, **settings: object) -> OciStore:
    return OciStore("registry", f"{host}/neurodesk/sif", insecure=True, **settings)  # type: ignore[arg-type]


def file_of(path: Path, size: int, seed: int = 1) -> tuple[Path, Artifact]:
    path.write_bytes(random.Random(seed).randbytes(size))
    return path, Artifact(*digest_of(path))


@pytest.fixture
def locked(registry: Registry) -> Iterator[Registry]:
    """A registry that lets in ci with the password s3cret."""
    directory = registry.storage.parent / "locked"
    directory.mkdir()
    (directory / "htpasswd").write_text(HTPASSWD + "\n")
    with oci_registry(directory, f"{{htpasswd: {{realm: tests, path: {directory / 'htpasswd'}}}}}") as running:
        yield running


# --- Apptainer --------------------------------------------------------------------------------------------------------


def apptainer(*words: str | Path, home: Path, **env: str) -> str:
    return run(["apptainer", *words], env={**os.environ, "HOME": str(home), "APPTAINER_USERNS": "1", **env})


def test_apptainer_pulls_what_was_put(registry: Registry, small_sif: Path, tmp_path: Path) -> None:
    artifact = Artifact(*digest_of(small_sif))
    store_on(registry.host).put(KEY, small_sif, artifact, nothing)
    pulled = tmp_path / "pulled.sif"
    apptainer("pull", "--no-https", pulled, f"oras://{registry.host}/neurodesk/sif:{TAG}", home=tmp_path)
    assert digest_of(pulled) == (artifact.sha256, artifact.size)


def test_what_apptainer_pushed_is_seen_with_its_sha256(registry: Registry, small_sif: Path, tmp_path: Path) -> None:
    sha256, size = digest_of(small_sif)
    apptainer("push", "--no-https", small_sif, f"oras://{registry.host}/neurodesk/sif:{TAG}", home=tmp_path)
    store = store_on(registry.host)
    assert store.stat(KEY) == StoredObject(KEY, size, sha256)
    assert list(store.list()) == [StoredObject(KEY, size, sha256)]
    assert store.get(KEY, tmp_path / "got", nothing) == (sha256, size)


def test_apptainer_logs_in_and_pulls(locked: Registry, small_sif: Path, tmp_path: Path) -> None:
    artifact = Artifact(*digest_of(small_sif))
    store_on(locked.host, credentials=Credentials("ci", "s3cret")).put(KEY, small_sif, artifact, nothing)
    pulled, place = tmp_path / "pulled.sif", f"oras://{locked.host}/neurodesk/sif:{TAG}"
    known = {"APPTAINER_DOCKER_USERNAME": "ci", "APPTAINER_DOCKER_PASSWORD": "s3cret"}
    apptainer("pull", "--no-https", pulled, place, home=tmp_path, **known)
    assert digest_of(pulled) == (artifact.sha256, artifact.size)


# --- log-ins ----------------------------------------------------------------------------------------------------------


def test_a_log_in_is_that_of_docker_login_or_the_one_given(locked: Registry, own_home: Path, tmp_path: Path) -> None:
    path, artifact = file_of(tmp_path / "sent", 9 * MIB)
    for stranger in (store_on(locked.host), store_on(locked.host, credentials=Credentials("ci", "wrong-word"))):
        for ask in (
            lambda store=stranger: store.stat(KEY),
            lambda store=stranger: list(store.list()),
            lambda store=stranger: store.put(KEY, path, artifact, nothing),
            lambda store=stranger: store.delete(KEY),
        ):
            with pytest.raises(StoreError) as caught:
                ask()
            assert "docker login" in caught.value.hint
            assert "wrong-word" not in f"{caught.value.message}{caught.value.hint}"
    (own_home / ".docker").mkdir()
    auth = base64.b64encode(b"ci:s3cret").decode()
    (own_home / ".docker/config.json").write_text(json.dumps({"auths": {locked.host: {"auth": auth}}}))
    store = store_on(locked.host, part=4 * MIB)
    store.put(KEY, path, artifact, nothing)
    assert store.stat(KEY) == StoredObject(KEY, artifact.size, artifact.sha256)
    assert store.get(KEY, tmp_path / "got", nothing) == (artifact.sha256, artifact.size)
    link = store.link(KEY)
    assert (link.headers, link.expires_in) == ((("Authorization", f"Basic {auth}"),), None)
    store.delete(KEY)
    assert store.stat(KEY) is None


def test_credentials_are_not_shown() -> None:
    assert "s3cret" not in repr(Credentials("ci", "s3cret"))


class Tokens:
    """A place that gives tokens t1, t2, …; and what a registry does that takes the last one only."""

    def __init__(self, web_server: Serve, registry: Registry) -> None:
        self.scopes: list[str] = []
        self.valid = ""
        self.givers = web_server(self.give)
        self.behind = forward_to(registry.host)
        self.registry = web_server(self.respond)

    def give(self, request: Request) -> Answer:
        self.scopes.append(request.path.partition("scope=")[2])
        self.valid = f"t{len(self.scopes)}"
        return Answer(body=json.dumps({"token": self.valid}).encode())

    def respond(self, request: Request) -> Answer:
        if not self.valid or request.headers.get("Authorization") != f"Bearer {self.valid}":
            scope = "repository:neurodesk/sif:pull" + ("" if request.method in ("GET", "HEAD") else ",push")
            challenge = f'Bearer realm="{self.givers.url}/token",service="tests",scope="{scope}"'
            return Answer(401, headers={"Www-Authenticate": challenge})
        return self.behind(request)


def test_a_token_that_expires_in_the_middle_is_renewed(web_server: Serve, registry: Registry, tmp_path: Path) -> None:
    tokens = Tokens(web_server, registry)
    store = store_on(tokens.registry.host, part=4 * MIB)
    path, artifact = file_of(tmp_path / "sent", 17 * MIB)

    def expire(done: int) -> None:
        tokens.valid = ""

    store.put(KEY, path, artifact, expire)
    assert store.stat(KEY) == StoredObject(KEY, artifact.size, artifact.sha256)
    assert [len(request.body) for request in tokens.registry.requests if request.method == "PATCH"].count(4 * MIB) > 4


def test_a_link_carries_a_token_and_a_new_one_when_it_is_asked_again(
    web_server: Serve, registry: Registry, tmp_path: Path
) -> None:
    tokens = Tokens(web_server, registry)
    store = store_on(tokens.registry.host)
    path, artifact = file_of(tmp_path / "sent", MIB)
    store.put(KEY, path, artifact, nothing)
    first = store.link(KEY)
    assert first.expires_in == 60
    got = requests.get(first.url, headers={**dict(first.headers), "Range": "bytes=5-9"}, timeout=10)
    assert (got.status_code, got.content) == (206, path.read_bytes()[5:10])
    second = store.link(KEY)
    assert second.headers != first.headers
    assert requests.get(second.url, headers=dict(second.headers), timeout=10).content == path.read_bytes()
    assert requests.get(second.url, timeout=10).status_code == 401


def test_a_link_of_an_open_registry_needs_nothing(registry: Registry, tmp_path: Path) -> None:
    path, artifact = file_of(tmp_path / "sent", 1000)
    store = store_on(registry.host)
    store.put(KEY, path, artifact, nothing)
    link = store.link(KEY)
    assert link == Link(f"http://{registry.host}/v2/neurodesk/sif/blobs/sha256:{artifact.sha256}")
    with pytest.raises(StoreError, match=r"holds no other_1\.0_20250101\.simg"):
        store.link("other_1.0_20250101.simg")


def test_a_registry_that_sends_its_readers_elsewhere_is_followed_without_the_log_in(
    web_server: Serve, registry: Registry, tmp_path: Path
) -> None:
    path, artifact = file_of(tmp_path / "sent", 1000)
    elsewhere = web_server(lambda request: Answer(body=path.read_bytes()))
    behind = Tokens(web_server, registry)
    store_on(behind.registry.host).put(KEY, path, artifact, nothing)

    def respond(request: Request) -> Answer:
        answer = behind.respond(request)
        if request.method == "GET" and "/blobs/" in request.path and answer.status == 200:
            # another name for the same machine, so another host
            place = f"{elsewhere.url.replace('127.0.0.1', 'localhost')}/blob?X-Amz-Expires=600&signed=yes"
            return Answer(307, headers={"Location": place})
        return answer

    store = store_on(web_server(respond).host)
    assert store.get(KEY, tmp_path / "got", nothing) == (artifact.sha256, artifact.size)
    link = store.link(KEY)
    assert (link.url.partition("?")[2], link.headers, link.expires_in) == ("X-Amz-Expires=600&signed=yes", (), 600)
    assert [request.headers.get("Authorization") for request in elsewhere.requests] == [None]


# --- referrers --------------------------------------------------------------------------------------------------------


def image_of(registry: Registry, directory: Path) -> str:
    """Push the small image as small_1.0:20250101 and return its bare digest."""
    layout = oci_layout(small(), SMALL_ENVIRONMENT, directory / "image")
    target = f"docker://{registry.host}/neurodesk/small_1.0:20250101"
    run(["skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:1", target])
    answer = manifest(registry, "neurodesk/small_1.0", "20250101")
    return answer.headers["Docker-Content-Digest"].partition(":")[2]


def manifest(registry: Registry, repository: str, place: str) -> requests.Response:
    accept = {"Accept": f"{IMAGE_MANIFEST}, {INDEX}"}
    return requests.get(f"http://{registry.host}/v2/{repository}/manifests/{place}", headers=accept, timeout=10)


def images_of(registry: Registry) -> RegistrySettings:
    return RegistrySettings("images", f"{registry.host}/neurodesk", ("{application}_{version}:{build_date}",), True)


def test_a_sif_is_a_referrer_of_its_image(registry: Registry, small_sif: Path, tmp_path: Path) -> None:
    source = image_of(registry, tmp_path)
    artifact = Artifact(*digest_of(small_sif), source)
    store = store_on(registry.host, images=images_of(registry))
    for _ in range(2):
        store.put(KEY, small_sif, artifact, nothing)
    listed = manifest(registry, "neurodesk/small_1.0", f"sha256-{source}")
    assert listed.headers["Content-Type"] == INDEX
    (entry,) = listed.json()["manifests"]
    referrer = manifest(registry, "neurodesk/small_1.0", entry["digest"]).json()
    assert referrer["subject"]["digest"] == f"sha256:{source}"
    assert referrer["layers"][0]["digest"] == f"sha256:{artifact.sha256}"
    pulled, place = tmp_path / "pulled.sif", f"oras://{registry.host}/neurodesk/small_1.0@{entry['digest']}"
    apptainer("pull", "--no-https", pulled, place, home=tmp_path)
    assert digest_of(pulled) == (artifact.sha256, artifact.size)
    store.delete(KEY)
    assert store.stat(KEY) is None
    assert manifest(registry, "neurodesk/small_1.0", f"sha256-{source}").json()["manifests"] == []
    assert manifest(registry, "neurodesk/small_1.0", entry["digest"]).status_code == 404
    assert manifest(registry, "neurodesk/small_1.0", f"sha256:{source}").status_code == 200


def test_a_registry_that_lists_referrers_itself_gets_no_tag_for_them(
    web_server: Serve, registry: Registry, tmp_path: Path
) -> None:
    source, behind = image_of(registry, tmp_path), forward_to(registry.host)

    def respond(request: Request) -> Answer:
        answer = behind(request)
        if request.method == "PUT" and b'"subject"' in request.body:
            answer.headers["OCI-Subject"] = f"sha256:{source}"
        return answer

    server = web_server(respond)
    images = replace(images_of(registry), url=f"{server.host}/neurodesk")
    path, artifact = file_of(tmp_path / "sent", 1000)
    store_on(server.host, images=images).put(KEY, path, replace(artifact, source_digest=source), nothing)
    assert manifest(registry, "neurodesk/small_1.0", f"sha256-{source}").status_code == 404


def test_where_repositories_share_no_blobs_the_sif_is_sent_again(
    web_server: Serve, registry: Registry, tmp_path: Path
) -> None:
    source, behind = image_of(registry, tmp_path), forward_to(registry.host)

    def respond(request: Request) -> Answer:
        if "mount=" in request.path:
            request.path = request.path.partition("?")[0]  # begins an upload instead
        return behind(request)

    server = web_server(respond)
    images = replace(images_of(registry), url=f"{server.host}/neurodesk")
    path, artifact = file_of(tmp_path / "sent", 9 * MIB)
    store = store_on(server.host, images=images, part=4 * MIB)
    store.put(KEY, path, replace(artifact, source_digest=source), nothing)
    blob = f"http://{registry.host}/v2/neurodesk/small_1.0/blobs/sha256:{artifact.sha256}"
    assert requests.get(blob, timeout=10).content == path.read_bytes()


@pytest.mark.parametrize("source", [None, "0" * 64], ids=["not known", "not there"])
def test_without_an_image_there_is_no_referrer(source: str | None, registry: Registry, tmp_path: Path) -> None:
    path, artifact = file_of(tmp_path / "sent", 1000)
    store = store_on(registry.host, images=images_of(registry))
    store.put(KEY, path, replace(artifact, source_digest=source), nothing)
    assert "annotations" not in manifest(registry, "neurodesk/sif", TAG).json()


def say_where_the_referrer_is(registry: Registry, text: str) -> None:
    """Put another manifest under the tag of the release, which says so."""
    url = f"http://{registry.host}/v2/neurodesk/sif/manifests/{TAG}"
    fields = {**manifest(registry, "neurodesk/sif", TAG).json(), "annotations": {"neurocommand.referrer": text}}
    requests.put(url, json=fields, headers={"Content-Type": IMAGE_MANIFEST}, timeout=10).raise_for_status()


@pytest.mark.parametrize(
    "repository",
    ["victim/other_1.0", "neurodesk/other_1.0", "neurodesk/small_1.0/../../victim/other_1.0", "victim/other_1.0?x=#"],
)
def test_nothing_is_deleted_outside_the_repositories_of_the_own_image(
    repository: str, registry: Registry, web_server: Serve, tmp_path: Path
) -> None:
    path, artifact = file_of(tmp_path / "sent", 1000)
    victims = {
        name: push_sif(registry.host, name, "1", b"12345") for name in ("victim/other_1.0", "neurodesk/other_1.0")
    }
    server = web_server(forward_to(registry.host))
    store = store_on(server.host, images=replace(images_of(registry), url=f"{server.host}/neurodesk"))
    store.put(KEY, path, artifact, nothing)
    sha256 = victims["victim/other_1.0"].partition(":")[2]
    say_where_the_referrer_is(registry, f"{repository}@{sha256}@{'0' * 64}")
    store.delete(KEY)
    assert store.stat(KEY) is None
    for name, digest in victims.items():
        assert manifest(registry, name, digest).status_code == 200
    assert {request.path.partition("/manifests/")[0] for request in server.requests if request.method == "DELETE"} == {
        "/v2/neurodesk/sif"
    }


def test_the_image_itself_is_not_deleted_as_a_referrer(registry: Registry, tmp_path: Path) -> None:
    source = image_of(registry, tmp_path)
    path, artifact = file_of(tmp_path / "sent", 1000)
    store = store_on(registry.host, images=images_of(registry))
    store.put(KEY, path, artifact, nothing)
    say_where_the_referrer_is(registry, f"neurodesk/small_1.0@{source}@{source}")
    store.delete(KEY)
    assert store.stat(KEY) is None
    assert manifest(registry, "neurodesk/small_1.0", f"sha256:{source}").status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"manifests": 7}', b"[" * 100_000])
def test_a_list_of_referrers_that_is_none_is_a_fault_of_the_store(
    body: bytes, registry: Registry, web_server: Serve, tmp_path: Path
) -> None:
    source, behind, odd = image_of(registry, tmp_path), forward_to(registry.host), [False]

    def respond(request: Request) -> Answer:
        lists = request.method == "GET" and request.path.endswith(f"/manifests/sha256-{source}")
        return Answer(body=body, headers={"Content-Type": INDEX}) if lists and odd[0] else behind(request)

    server = web_server(respond)
    store = store_on(server.host, images=replace(images_of(registry), url=f"{server.host}/neurodesk"))
    path, artifact = file_of(tmp_path / "sent", 1000)
    artifact = replace(artifact, source_digest=source)
    store.put(KEY, path, artifact, nothing)
    odd[0] = True
    said = f"^store registry: .* under the tag sha256-{source} of neurodesk/small_1.0 that lists no referrers"
    with pytest.raises(StoreError, match=said):
        store.delete(KEY)
    with pytest.raises(StoreError, match=said):
        store.put(KEY, path, artifact, nothing)


# --- what is under a tag ----------------------------------------------------------------------------------------------


def test_something_else_under_a_releases_tag_is_neither_absent_nor_ours(registry: Registry, tmp_path: Path) -> None:
    push_sif(registry.host, "neurodesk/sif", TAG, b"12345", layer_type="application/vnd.oci.image.layer.v1.tar")
    store = store_on(registry.host)
    path, artifact = file_of(tmp_path / "sent", 1000)
    for ask in (
        lambda: store.stat(KEY),
        lambda: store.get(KEY, tmp_path / "got", nothing),
        lambda: store.put(KEY, path, artifact, nothing),
        lambda: store.delete(KEY),
        lambda: store.link(KEY),
    ):
        with pytest.raises(StoreError, match=f"holds something under the tag {TAG} that is no SIF"):
            ask()
    assert list(store.list()) == []


def test_a_manifest_with_two_tags_is_not_deleted_for_the_sake_of_one(registry: Registry) -> None:
    store, other = store_on(registry.host), "other_1.0_20250101"
    digests = {push_sif(registry.host, "neurodesk/sif", tag, b"12345") for tag in (TAG, other)}
    assert len(digests) == 1
    store.delete(KEY)
    assert store.stat(KEY) is None
    sha256 = hashlib.sha256(b"12345").hexdigest()
    assert list(store.list()) == [StoredObject(f"{other}.simg", 5, sha256)]


@pytest.mark.parametrize("key", ["README.simg", "a_b.simg", f"{'a' * 64}_{'1' * 64}_20250101.simg"])
def test_what_a_tag_cannot_name_is_refused(key: str, registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no release's|at most 128 characters"):
        store_on(registry.host).stat(key)


def test_somebody_else_who_puts_other_bytes_meanwhile_was_first(registry: Registry, tmp_path: Path) -> None:
    path, artifact = file_of(tmp_path / "sent", 1000)
    store = store_on(registry.host)
    with pytest.raises(ImmutableError, match="somebody else put"):
        store.put(KEY, path, artifact, lambda _: push_sif(registry.host, "neurodesk/sif", TAG, b"12345"))
    assert store.stat(KEY) == StoredObject(KEY, 5, hashlib.sha256(b"12345").hexdigest())
    store.delete(KEY)
    data = path.read_bytes()
    store.put(KEY, path, artifact, lambda _: push_sif(registry.host, "neurodesk/sif", TAG, data))
    assert store.stat(KEY) == StoredObject(KEY, artifact.size, artifact.sha256)


# --- sending ----------------------------------------------------------------------------------------------------------


def patched(server: WebServer) -> int:
    return sum(len(request.body) for request in server.requests if request.method == "PATCH")


def test_a_killed_put_goes_on_where_it_was(registry: Registry, web_server: Serve, tmp_path: Path) -> None:
    server = web_server(forward_to(registry.host))
    path, artifact = file_of(tmp_path / "sent", 20 * MIB)
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom neurocommand.model import Artifact\n"
        "from neurocommand.stores.oci import OciStore\n"
        f"store = OciStore('r', '{server.host}/neurodesk/sif', insecure=True, state=Path({str(tmp_path / 's')!r}), "
        f"part={4 * MIB})\n"
        f"store.put({KEY!r}, Path({str(path)!r}), Artifact({artifact.sha256!r}, {artifact.size}), "
        f"lambda done: os.kill(os.getpid(), 9) if done == {12 * MIB} else None)\n"
    )
    root = Path(__file__).parents[2]
    child = subprocess.run(["python3", "-c", program], env={**os.environ, "PYTHONPATH": str(root)}, check=False)
    assert child.returncode == -9
    assert patched(server) == 12 * MIB
    (note,) = (tmp_path / "s").iterdir()
    assert note.stat().st_mode & 0o777 == 0o600
    store, steps = store_on(server.host, state=tmp_path / "s", part=4 * MIB), list[int]()
    store.put(KEY, path, artifact, steps.append)
    assert steps == [16 * MIB, 20 * MIB]
    assert patched(server) == 20 * MIB
    assert store.get(KEY, tmp_path / "got", nothing) == (artifact.sha256, artifact.size)
    assert list((tmp_path / "s").iterdir()) == []


def test_an_unfinished_upload_of_other_bytes_is_not_gone_on_with(registry: Registry, tmp_path: Path) -> None:
    behind, broken = forward_to(registry.host), [True]

    def respond(request: Request) -> Answer:
        ranged = request.headers.get("Content-Range", "")
        return Answer(503) if broken and ranged.startswith(f"{8 * MIB}-") else behind(request)

    with WebServer(respond) as server:
        store = store_on(server.host, state=tmp_path / "s", part=4 * MIB)
        path, artifact = file_of(tmp_path / "one", 20 * MIB)
        with pytest.raises(TransientStoreError):
            store.put(KEY, path, artifact, nothing)
        assert list((tmp_path / "s").iterdir()) != []
        broken.clear()
        other, wanted = file_of(tmp_path / "other", 20 * MIB, seed=2)
        store.put(KEY, other, wanted, nothing)
        assert store.get(KEY, tmp_path / "got", nothing) == (wanted.sha256, wanted.size)
    assert not list(registry.storage.glob("docker/registry/v2/repositories/**/_uploads/*/data"))
    assert list((tmp_path / "s").iterdir()) == []


def test_an_answer_that_was_lost_does_not_send_the_part_again(
    registry: Registry, web_server: Serve, tmp_path: Path
) -> None:
    """The registry took a part, but its answer broke off: what it has is asked of it."""
    behind, newest, lost = forward_to(registry.host), list[str](), list[str]()

    def respond(request: Request) -> Answer:
        if request.method == "GET" and "/uploads/" in request.path:
            request.path = newest[-1]  # other registries than this one keep the address of an upload
        answer = behind(request)
        if request.method == "PATCH":
            newest.append((answer.headers["Location"] or "").partition(request.headers["Host"])[2])
            if not lost and request.headers["Content-Range"].startswith(f"{4 * MIB}-"):
                lost.append(request.path)
                return Answer(drop=True)
        return answer

    server = web_server(respond)
    path, artifact = file_of(tmp_path / "sent", 12 * MIB)
    store = store_on(server.host, part=4 * MIB)
    store.put(KEY, path, artifact, nothing)
    assert patched(server) == 12 * MIB
    assert len(lost) == 1
    assert store.get(KEY, tmp_path / "got", nothing) == (artifact.sha256, artifact.size)


@pytest.mark.parametrize("status", [404, 405, 416, 501])
def test_a_registry_that_takes_no_parts_gets_the_whole(
    status: int, registry: Registry, web_server: Serve, tmp_path: Path
) -> None:
    behind = forward_to(registry.host)
    server = web_server(lambda request: Answer(status) if request.method == "PATCH" else behind(request))
    path, artifact = file_of(tmp_path / "sent", 9 * MIB)
    store, steps = store_on(server.host, part=4 * MIB), list[int]()
    store.put(KEY, path, artifact, steps.append)
    assert steps[-1] == artifact.size
    assert store.get(KEY, tmp_path / "got", nothing) == (artifact.sha256, artifact.size)
    wrong = replace(artifact, sha256="0" * 64)
    with pytest.raises(ImmutableError):
        store.put("other_1.0_20250101.simg", path, wrong, nothing)
    assert store.stat("other_1.0_20250101.simg") is None


def test_a_registry_may_ask_for_bigger_parts(registry: Registry, web_server: Serve, tmp_path: Path) -> None:
    behind = forward_to(registry.host)

    def respond(request: Request) -> Answer:
        answer = behind(request)
        if request.method == "POST":
            answer.headers["OCI-Chunk-Min-Length"] = str(5 * MIB)
        return answer

    server = web_server(respond)
    path, artifact = file_of(tmp_path / "sent", 9 * MIB)
    store_on(server.host, part=4 * MIB).put(KEY, path, artifact, nothing)
    assert [len(request.body) for request in server.requests if request.method == "PATCH"] == [5 * MIB, 4 * MIB]


# --- answers ----------------------------------------------------------------------------------------------------------


def test_a_listing_of_several_pages(registry: Registry, web_server: Serve) -> None:
    tags = [f"tool_{number}.0_20250101" for number in range(5)]
    for tag in tags:
        push_sif(registry.host, "neurodesk/sif", tag, b"x")
    behind = forward_to(registry.host)

    def respond(request: Request) -> Answer:
        if "/tags/list" not in request.path:
            return behind(request)
        last = request.path.partition("last=")[2]
        start = tags.index(last) + 1 if last else 0
        page, more = tags[start : start + 2], start + 2 < len(tags)
        link = {"Link": f'</v2/neurodesk/sif/tags/list?n=2&last={page[-1]}>; rel="next"'} if more else {}
        return Answer(body=json.dumps({"name": "neurodesk/sif", "tags": page}).encode(), headers={**link})

    assert [found.key for found in store_on(web_server(respond).host).list()] == [f"{tag}.simg" for tag in tags]


LISTINGS: dict[str, tuple[Answer, str]] = {
    "a circle": (
        Answer(body=b'{"tags": []}', headers={"Link": '</v2/neurodesk/sif/tags/list?n=1000>; rel="next"'}),
        "goes in a circle",
    ),
    "a web page": (Answer(body=b"<html>"), "no list of tags"),
    "no list": (Answer(body=b'{"tags": {"a": 1}}'), "no list of tags"),
    "a number": (Answer(body=b'{"tags": [1]}'), "no list of tags"),
    "404 of something else": (Answer(404, b"<html>"), "no list of tags"),
    "a rate limit": (Answer(429, headers={"Retry-After": "7"}), "answers 429"),
}


@pytest.mark.parametrize("case", LISTINGS)
def test_what_is_no_listing_is_an_error(case: str, web_server: Serve) -> None:
    answer, reason = LISTINGS[case]
    with pytest.raises(StoreError, match=reason) as caught:
        list(store_on(web_server(lambda request: answer).host).list())
    if isinstance(caught.value, TransientStoreError):
        assert caught.value.retry_after == 7


STATED: dict[str, tuple[Answer, type[StoreError], str]] = {
    "404 of something else": (Answer(404, b"<html>"), StoreError, "but not as a registry does"),
    "a web page": (Answer(200, b"<html>", {"Content-Type": "text/html"}), StoreError, "is no image manifest"),
    "503": (Answer(503), TransientStoreError, "answers 503"),
    "403": (Answer(403, b'{"errors": [{"code": "DENIED"}]}'), StoreError, "answers 403 DENIED"),
    "no answer": (Answer(drop=True), TransientStoreError, "cannot tell whether it holds"),
    "too long": (Answer(200, b" " * (5 << 20), {"Content-Type": IMAGE_MANIFEST}), StoreError, "more than 4 MiB"),
}


@pytest.mark.parametrize("case", STATED)
def test_an_answer_that_says_nothing_is_never_absent(case: str, web_server: Serve) -> None:
    answer, kind, reason = STATED[case]
    with pytest.raises(StoreError, match=reason) as caught:
        store_on(web_server(lambda request: answer).host).stat(KEY)
    assert type(caught.value) is kind


def test_a_registry_that_does_not_delete_says_so(registry: Registry, web_server: Serve) -> None:
    push_sif(registry.host, "neurodesk/sif", TAG, b"12345")
    behind, refusal = forward_to(registry.host), b'{"errors": [{"code": "UNSUPPORTED", "message": "no"}]}'
    server = web_server(lambda request: Answer(405, refusal) if request.method == "DELETE" else behind(request))
    with pytest.raises(StoreError, match="answers 405 UNSUPPORTED no: it does not delete"):
        store_on(server.host).delete(KEY)


@pytest.mark.parametrize(
    "answer", [Answer(507), Answer(403, b'{"errors": [{"code": "DENIED", "message": "quota exceeded"}]}')]
)
def test_a_registry_without_space(answer: Answer, registry: Registry, web_server: Serve, tmp_path: Path) -> None:
    behind = forward_to(registry.host)
    server = web_server(lambda request: answer if request.method == "POST" else behind(request))
    path, artifact = file_of(tmp_path / "sent", 1000)
    with pytest.raises(StoreFullError):
        store_on(server.host).put(KEY, path, artifact, nothing)


def test_a_blob_that_breaks_off_or_goes_on_is_noticed(registry: Registry, web_server: Serve, tmp_path: Path) -> None:
    push_sif(registry.host, "neurodesk/sif", TAG, b"12345")
    behind = forward_to(registry.host)
    for answer in (Answer(200, b"123"), Answer(200, b"1234567"), Answer(200, b"12345", sent=3)):

        def respond(request: Request, answer: Answer = answer) -> Answer:
            return answer if "/blobs/" in request.path else behind(request)

        with pytest.raises(TransientStoreError):
            store_on(web_server(respond).host).get(KEY, tmp_path / "got", nothing)
