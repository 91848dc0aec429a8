"""The one door to HTTP: sessions that always time out and never step down from https, and why a request failed."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from neurocommand.errors import plain_reason

# Statuses that say "not now": asking again may help.
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})

# Connections to one host that a session keeps for its next requests.
CONNECTIONS = 32

# Bytes of a body that are sooner read than a new connection is made.
_SHORT = 1 << 14

_USER = re.compile(r"//[^/?#@\s]*@")
_QUERY = re.compile(r"\?[^\s'\")]+")

_LASTING = (
    requests.exceptions.SSLError,
    requests.TooManyRedirects,
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
)


Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Route:
    """The way to an address that the environment asks for: a proxy's address, and the file of trusted certificates.

    ``authorities`` is a directory where the environment names one.
    """

    proxy: str | None
    authorities: str


class DowngradeError(requests.exceptions.InvalidSchema):
    """An https address redirects to one that is not https."""


class Session(requests.Session):
    """A session of ``requests`` with limits; proxies and CA bundles come from the environment, as requests does it.

    Bodies are asked for unencoded, so that lengths mean bytes of the object. Cookies are not kept: some registries take
    a cookie as the sign of a browser.

    Args:
        connect: seconds to wait for a connection.
        read: seconds to wait for the next bytes.
    """

    def __init__(self, connect: float = 10.0, read: float = 60.0) -> None:
        super().__init__()
        self.limits = (connect, read)
        self.max_redirects = 10
        # Threads share a session: as many connections as there are threads, else urllib3 complains on standard error.
        for scheme in ("https://", "http://"):
            self.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
        self.headers["Accept-Encoding"] = "identity"
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request, within the limits where the caller sets none."""
        kwargs["timeout"] = kwargs.get("timeout") or self.limits
        return super().send(request, **kwargs)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where an answer redirects to; its body is not wanted, and not to be had any longer.

        requests asks this of every answer, and reads what a redirect says, however long, before it goes on.

        Raises:
            DowngradeError: from https to anything else.
        """
        target = super().get_redirect_target(resp)
        if target is None:
            return None
        _leave(resp)
        scheme = urlsplit(urljoin(resp.url, target)).scheme
        if resp.url.startswith("https:") and scheme != "https":
            raise DowngradeError(f"redirects from https to {scheme}")
        return target

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Take the log-in out of a request that is redirected elsewhere; ~/.netrc counts only where nothing else does.

        Args:
            prepared_request: the next one.
            response: the answer that redirects.
        """
        if self.auth is None:
            super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call]
            return
        leaves: bool = self.should_strip_auth(response.request.url, prepared_request.url)  # type: ignore[no-untyped-call]
        if leaves:
            prepared_request.headers.pop("Authorization", None)

    def open_span(self, url: str, headers: Headers, first: int, last: int | None = None) -> requests.Response:
        """Ask for a span of bytes, and return the answer, whose body is not read yet; redirects are followed.

        What ``headers`` hold goes to the address's own scheme, host and port, and nowhere else; no other credentials
        (of ~/.netrc, say) are sent.

        Args:
            url: the address.
            headers: to send along.
            first: the first byte, from 0.
            last: the last byte; None: to the end.

        Raises:
            requests.RequestException: there is no answer.
        """
        own, span = origin(url), f"bytes={first}-{'' if last is None else last}"
        for _ in range(self.max_redirects + 1):
            mine = dict(headers) if origin(url) == own else {}
            answer = self.get(url, headers={**mine, "Range": span}, stream=True, allow_redirects=False, auth=as_it_is)
            target = self.get_redirect_target(answer)
            if target is None:
                return answer
            url = urljoin(answer.url, target)
        raise requests.TooManyRedirects(f"more than {self.max_redirects} redirects")

    def route(self, url: str) -> Route:
        """Return the way to an address, as requests finds it (HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE and so on)."""
        found = self.merge_environment_settings(url, {}, None, None, None)
        verify = found["verify"]
        authorities = verify if isinstance(verify, str) else requests.utils.DEFAULT_CA_BUNDLE_PATH
        return Route(requests.utils.select_proxy(url, found["proxies"]), authorities)


def _leave(answer: requests.Response) -> None:
    """End an answer; a short body is read, so that the connection serves the next request."""
    left = getattr(answer.raw, "length_remaining", None)
    if left is not None and left <= _SHORT:
        with contextlib.suppress(OSError, urllib3.exceptions.HTTPError):
            answer.raw.read(_SHORT, decode_content=False)
    answer.close()


def as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add no credentials to a request: given as ``auth``, it keeps those of ~/.netrc away."""
    return request


def origin(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of an address."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def basic_authorization(url: str) -> tuple[tuple[str, str], ...]:
    """Return the header that a user and password call for, of an address or of the user's ~/.netrc; none without."""
    user, password = requests.utils.get_auth_from_url(url)
    if not user:
        user, password = requests.utils.get_netrc_auth(url) or ("", "")
    if not user:
        return ()
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    return (("Authorization", f"Basic {token}"),)


def reason(error: BaseException) -> str:
    """Say in a few words why a request got no whole answer."""
    if isinstance(error, requests.TooManyRedirects):
        return "redirects in a loop"
    if isinstance(error, (requests.exceptions.InvalidURL, urllib3.exceptions.LocationParseError)):
        return "its address, or its proxy's, cannot be understood"
    # some of the library's messages quote the address, which may hold a password or a signature
    return _QUERY.sub("?…", _USER.sub("//", plain_reason(error)))


def is_transient(error: BaseException) -> bool:
    """Tell whether asking again may help after a request that got no whole answer."""
    return not isinstance(error, _LASTING)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that an answer asks to wait (RFC 9110 §10.2.3); None when it does not say.

    A date is measured from the answer's own ``Date``, since the clock of this machine may be wrong.

    >>> retry_after({"Retry-After": "7"})
    7.0
    """
    stated = headers.get("Retry-After", "").strip()
    if stated.isdecimal():
        return float(stated)
    try:
        until, now = parsedate_to_datetime(stated), parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, (until - now).total_seconds())
    except (TypeError, ValueError):
        return None
