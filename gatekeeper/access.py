"""Who may look at the console. Pure: headers and cookies in, a name or a refusal out.

Bound to a loopback address, anyone on this machine may. Bound to another, a login is needed: a token of ours, or a
header in which a reverse proxy names the user it has let in. Without either there is no console.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

COOKIE = "bouncer_session"
LASTS = 12 * 3600
"""Seconds for which a login lasts."""
LOCAL = "this machine"
"""The name of a user on this machine, who needs no login."""
HOLDER = "token"
"""The name of a user who has logged in with the token, which names no one."""
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
LEAST = 16
"""Characters that a token must have."""


@dataclass(frozen=True, slots=True)
class Access:
    """The rules in force."""

    host: str
    """The address that the service binds."""
    token: str = ""
    user_header: str = ""
    """The header in which a reverse proxy names the user, in lower case."""

    @property
    def local(self) -> bool:
        """True if only this machine reaches the service."""
        return is_loopback(self.host)

    @property
    def on(self) -> bool:
        """True if there is a console at all."""
        return bool(self.token or self.user_header) or self.local

    @property
    def asks(self) -> bool:
        """True if a login with our token is possible."""
        return self.token != ""

    def user(self, headers: Mapping[str, str], cookie: str, now: float) -> str:
        """Return who is looking; empty if no one may. `headers` are by lower-case name, `now` is Unix time."""
        if self.user_header and (named := headers.get(self.user_header, "").strip()):
            return named[:200]
        if self.token:
            return HOLDER if self._is_session(cookie, now) else ""
        if self.user_header or not self.local:
            return ""
        # Another site may name this machine in the DNS, and a proxy may bring anyone here.
        honest = is_loopback(hostname(headers.get("host", ""))) and not any(name in headers for name in FORWARDED)
        return LOCAL if honest else ""

    def login(self, token: str, now: float) -> str | None:
        """Return the cookie for the right token; None for a wrong one."""
        if not self.token or not hmac.compare_digest(token.encode(), self.token.encode()):
            return None
        expires = str(int(now) + LASTS)
        return f"{expires}.{self._signature(expires)}"

    def _is_session(self, cookie: str, now: float) -> bool:
        expires, _, signature = cookie.partition(".")
        if not expires.isascii() or not expires.isdecimal() or len(expires) > len(str(int(now))) + 1:
            return False
        return hmac.compare_digest(signature.encode(), self._signature(expires).encode()) and int(expires) > now

    def _signature(self, text: str) -> str:
        key = hashlib.sha256(b"bouncer console session " + self.token.encode()).digest()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def is_loopback(host: str) -> bool:
    """Return True for an address, or a name, that only this machine reaches."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def hostname(host: str) -> str:
    """Return a Host header without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def same_origin(headers: Mapping[str, str]) -> bool:
    """Return True unless a browser says that another site makes the request."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2] == headers.get("host")


def may_act(headers: Mapping[str, str]) -> bool:
    """Return True if a page of ours makes the request. Stricter than `same_origin`: it has to be shown.

    A form of another site can't send JSON, and its scripts may send it only if we allowed that, which we never do.
    """
    shown = "sec-fetch-site" in headers or "origin" in headers
    is_json = headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
    return shown and is_json and headers.get("sec-fetch-site") != "none" and same_origin(headers)
