"""The one door to HTTP: sessions that always time out and never step down from https, and why a request failed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter

from neurocommand.errors import plain_reason

# Statuses that say "not now": asking again may help.
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})

# Connections to one host that a session keeps for its next requests.
CONNECTIONS = 32

_USER = re.compile(r"//[^/?#@\s]*@")

_LASTING = (
    requests.exceptions.SSLError,
    requests.TooManyRedirects,
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
)


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
        """Return where an answer redirects to.

        Raises:
            DowngradeError: from https to anything else.
        """
        target = super().get_redirect_target(resp)
        if target is not None and resp.url.startswith("https:"):
            scheme = urlsplit(urljoin(resp.url, target)).scheme
            if scheme != "https":
                resp.close()
                raise DowngradeError(f"redirects from https to {scheme}")
        return target


def reason(error: BaseException) -> str:
    """Say in a few words why a request got no whole answer."""
    if isinstance(error, requests.TooManyRedirects):
        return "redirects in a loop"
    # some of the library's messages quote the address
    return _USER.sub("//", plain_reason(error))


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
