"""Which registry an image comes from, and how often registries are asked: on web servers that count."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from neurocommand import imagesearch
from neurocommand.errors import ImageError, RegistryBusyError, RegistryError
from neurocommand.model import ImageReference, Release
from neurocommand.registry import Registries
from neurocommand.registrysession import IMAGE_MANIFEST
from neurocommand.settings import Budget, Credentials, RegistrySettings
from tests.servers import Answer, Request, Respond, WebServer, refused_url

Serve = Callable[[Respond], WebServer]
RELEASE = Release("fsl", "6.0.4", "20210105")
BODY = b'{"schemaVersion": 2}'
DIGEST = hashlib.sha256(BODY).hexdigest()
ABSENT = Answer(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')
HERE = Answer(body=BODY, headers={"Content-Type": IMAGE_MANIFEST, "Docker-Content-Digest": f"sha256:{DIGEST}"})


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def registry_of(server: WebServer, name: str, **more: object) -> RegistrySettings:
    return RegistrySettings(name, f"{server.host}/x", ("{application}:{version}",), True, **more)  # type: ignore[arg-type]


def find(registries: list[RegistrySettings], made: Registries | None = None) -> imagesearch.Image:
    return imagesearch.find(RELEASE, registries, (made or Registries(registries)).resolve)


def test_the_first_that_has_it_is_taken_and_no_other_is_asked(web_server: Serve) -> None:
    none, first, second = (web_server(lambda request, said=said: said) for said in (ABSENT, HERE, HERE))  # type: ignore[misc]
    registries = [registry_of(server, name) for server, name in ((none, "a"), (first, "b"), (second, "c"))]
    found = find(registries)
    assert (found.registry.name, found.digest, found.passed_over) == ("b", DIGEST, ())
    assert len(first.requests) == 1
    assert second.requests == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(429), "ghcr: rate limited"),
        (Answer(500), "ghcr: answers 500"),
        (Answer(502), "ghcr: answers 502"),
        (Answer(503, headers={"Retry-After": "5"}), "ghcr: answers 503"),
    ],
)
def test_one_that_is_busy_is_passed_over_and_named(answer: Answer, said: str, web_server: Serve) -> None:
    busy, other = web_server(lambda request: answer), web_server(lambda request: HERE)
    found = find([registry_of(busy, "ghcr"), registry_of(other, "quay")])
    assert (found.registry.name, found.passed_over) == ("quay", (said,))


def test_busy_is_not_absent(web_server: Serve) -> None:
    busy, other = web_server(lambda request: Answer(429)), web_server(lambda request: ABSENT)
    with pytest.raises(RegistryError, match=r"some cannot tell: ghcr: .* rate limited \(429\)"):
        find([registry_of(busy, "ghcr"), registry_of(other, "quay")])
    with pytest.raises(ImageError, match="no registry has its image"):
        find([registry_of(other, "quay")])


@pytest.mark.parametrize("stated", ["junk", "sha256:abc", "md5:" + "a" * 32, ""])
def test_what_is_no_digest_is_never_taken_for_one(stated: str, web_server: Serve) -> None:
    headers = {"Content-Type": IMAGE_MANIFEST, "Docker-Content-Digest": stated}
    odd = web_server(lambda request: Answer(body=BODY, headers={**headers}))
    page = web_server(lambda request: Answer(body=b"<html>", headers={"Content-Type": "text/html"}))
    other = web_server(lambda request: HERE)
    found = find([registry_of(odd, "odd"), registry_of(page, "page"), registry_of(other, "quay")])
    assert (found.registry.name, found.digest) == ("quay", DIGEST)
    assert [text.partition(":")[0] for text in found.passed_over] == ["odd", "page"]
    with pytest.raises(RegistryError):
        find([registry_of(odd, "odd"), registry_of(page, "page")])


def test_one_that_cannot_be_reached_is_passed_over(web_server: Serve) -> None:
    gone = RegistrySettings("gone", f"{refused_url().removeprefix('http://')}/x", ("{application}:1",), True)
    other = web_server(lambda request: HERE)
    found = find([gone, registry_of(other, "quay")])
    assert found.registry.name == "quay"
    assert "Connection refused" in found.passed_over[0]


def test_one_that_has_it_but_does_not_give_it_is_passed_over(web_server: Serve) -> None:
    servers = {name: web_server(lambda request: HERE) for name in ("ghcr", "quay", "spare")}
    given: list[tuple[str, tuple[str, ...]]] = []

    def use(image: imagesearch.Image) -> str:
        given.append((image.registry.name, image.passed_over))
        if image.registry.name == "ghcr":
            raise RegistryBusyError("ghcr says 429", reason="rate limited")
        return image.registry.name

    registries = [registry_of(server, name) for name, server in servers.items()]
    assert imagesearch.take(RELEASE, registries, Registries(registries).resolve, use) == "quay"
    assert given == [("ghcr", ()), ("quay", ("ghcr: rate limited",))]
    assert servers["spare"].requests == []


def test_when_none_gives_it_all_reasons_are_told(web_server: Serve) -> None:
    here, limited, absent = (web_server(lambda request, said=said: said) for said in (HERE, Answer(429), ABSENT))  # type: ignore[misc]
    registries = [registry_of(here, "a"), registry_of(limited, "b"), registry_of(absent, "c"), registry_of(here, "d")]

    def use(image: imagesearch.Image) -> str:
        raise RegistryError(f"{image.registry.name} broke off")

    with pytest.raises(
        RegistryError, match=r"no registry gives its image: a: a broke off; b: .*429.*; d: d broke off$"
    ):
        imagesearch.take(RELEASE, registries, Registries(registries).resolve, use)


def test_what_is_wrong_with_an_image_itself_is_not_looked_for_elsewhere(web_server: Serve) -> None:
    first, second = web_server(lambda request: HERE), web_server(lambda request: HERE)
    registries = [registry_of(first, "a"), registry_of(second, "b")]

    def use(image: imagesearch.Image) -> str:
        raise ImageError("damaged")

    with pytest.raises(ImageError, match="damaged"):
        imagesearch.take(RELEASE, registries, Registries(registries).resolve, use)
    assert second.requests == []


# --- Retry-After and budgets ------------------------------------------------------------------------------------------


def test_a_host_that_asked_to_wait_is_not_asked_before(web_server: Serve) -> None:
    clock, answers = Clock(), [Answer(429, headers={"Retry-After": "90"})]
    busy, other = web_server(lambda request: answers[-1]), web_server(lambda request: HERE)
    registries = [registry_of(busy, "ghcr"), registry_of(other, "quay")]
    made = Registries(registries, clock=clock)
    assert find(registries, made).passed_over == ("ghcr: rate limited",)
    assert len(busy.requests) == 1
    answers.append(HERE)
    clock.now += 89
    assert find(registries, made).passed_over == ("ghcr: rate limited",)
    assert len(busy.requests) == 1
    with pytest.raises(RegistryError, match="rate limited: not asked again for 1 s"):
        find(registries[:1], made)
    clock.now += 2
    assert find(registries, made).registry.name == "ghcr"


def test_without_a_time_a_rate_limit_holds_for_a_minute_and_an_error_does_not(web_server: Serve) -> None:
    clock = Clock()
    for status, asked in ((429, 1), (500, 2)):
        server = web_server(lambda request, status=status: Answer(status))  # type: ignore[misc]
        made = Registries([registry_of(server, "a")], clock=clock)
        for _ in range(2):
            with pytest.raises(RegistryError):
                find([registry_of(server, "a")], made)
        assert len(server.requests) == asked
        clock.now += 61
        with pytest.raises(RegistryError):
            find([registry_of(server, "a")], made)
        assert len(server.requests) == asked + 1


def test_a_budget_is_kept_and_comes_back(web_server: Serve) -> None:
    clock = Clock()
    scarce, other = web_server(lambda request: HERE), web_server(lambda request: HERE)
    registries = [registry_of(scarce, "scarce", budget=Budget(3, 60)), registry_of(other, "quay")]
    made = Registries(registries, clock=clock)
    assert [find(registries, made).registry.name for _ in range(5)] == ["scarce"] * 3 + ["quay"] * 2
    assert len(scarce.requests) == 3
    assert find(registries, made).passed_over == ("scarce: budget used up",)
    clock.now += 60
    assert find(registries, made).registry.name == "scarce"


def test_every_request_counts_and_hosts_share_nothing(web_server: Serve) -> None:
    """An image that is not there takes two requests: HEAD, and GET for the registry's own word."""
    empty, other = web_server(lambda request: ABSENT), web_server(lambda request: HERE)
    registries = [registry_of(empty, "empty", budget=Budget(4, 60)), registry_of(other, "quay")]
    made = Registries(registries, clock=Clock())
    assert [find(registries, made).passed_over for _ in range(3)] == [(), (), ("empty: budget used up",)]
    assert len(empty.requests) == 4
    assert len(other.requests) == 3


def test_two_registries_of_one_host_share_the_smaller_budget(web_server: Serve) -> None:
    server = web_server(lambda request: HERE)
    registries = [registry_of(server, "a", budget=Budget(5, 60)), registry_of(server, "b", budget=Budget(1, 60))]
    made = Registries(registries, clock=Clock())
    find(registries, made)
    with pytest.raises(RegistryError, match="has had its budget of 1 requests in 60 s"):
        find(registries, made)


def test_credentials_of_the_settings_log_in(web_server: Serve, tmp_path: Path) -> None:
    def respond(request: Request) -> Answer:
        known = request.headers.get("Authorization") == "Basic Y2k6czNjcmV0"
        return HERE if known else Answer(401, headers={"Www-Authenticate": 'Basic realm="x"'})

    server = web_server(respond)
    registry = registry_of(server, "ours", credentials=Credentials("ci", "s3cret"))
    assert find([registry]).digest == DIGEST
    wrong = registry_of(server, "ours", credentials=Credentials("ci", "wrong-word"))
    with pytest.raises(RegistryError) as caught:
        find([wrong])
    assert "wrong-word" not in caught.value.message + caught.value.hint


# --- Docker Hub -------------------------------------------------------------------------------------------------------


def named(name: str, url: str) -> RegistrySettings:
    return RegistrySettings(name, url, ("{application}_{version}:{build_date}",), False)


HUB = [named("hub", "docker.io/vnmd"), named("ghcr", "ghcr.io/x"), named("quay", "quay.io/x")]


@pytest.mark.parametrize("url", ["docker.io/vnmd", "index.docker.io/vnmd", "registry-1.docker.io/vnmd"])
def test_docker_hub_is_asked_last_also_when_it_stands_first(url: str) -> None:
    asked: list[str] = []

    def resolve(reference: ImageReference) -> str | None:
        asked.append(reference.registry)
        return DIGEST if len(asked) == 3 else None

    registries = [named("hub", url), *HUB[1:]]
    assert imagesearch.find(RELEASE, registries, resolve).registry.name == "hub"
    assert asked == ["ghcr.io", "quay.io", url.partition("/")[0]]


def test_docker_hub_is_not_asked_for_what_another_has() -> None:
    asked: list[str] = []

    def resolve(reference: ImageReference) -> str | None:
        asked.append(reference.registry)
        return DIGEST if reference.registry == "quay.io" else None

    assert imagesearch.find(RELEASE, HUB, resolve).registry.name == "quay"
    assert asked == ["ghcr.io", "quay.io"]


def test_docker_hub_is_asked_last_for_what_another_has_but_does_not_give() -> None:
    used: list[str] = []

    def use(image: imagesearch.Image) -> str:
        used.append(image.registry.name)
        if image.registry.name != "hub":
            raise RegistryError("broke off")
        return "given"

    assert imagesearch.take(RELEASE, HUB, lambda reference: DIGEST, use) == "given"
    assert used == ["ghcr", "quay", "hub"]
