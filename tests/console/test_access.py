"""Who may look at the console: a table of addresses, settings, headers and cookies."""

import pytest

from gatekeeper.access import LASTS, Access, may_act, same_origin

TOKEN = "a token of enough characters"  # noqa: S105 - it opens nothing
NOW = 1_800_000_000.0
EVERYWHERE = "0.0.0.0"  # noqa: S104 - what the rules are about


@pytest.mark.parametrize(
    ("access", "on"),
    [
        (Access("127.0.0.1"), True),
        (Access("::1"), True),
        (Access("localhost"), True),
        (Access(EVERYWHERE), False),
        (Access("::"), False),
        (Access("gatekeeper.internal"), False),
        (Access(EVERYWHERE, TOKEN), True),
        (Access(EVERYWHERE, user_header="x-user"), True),
    ],
)
def test_there_is_a_console_only_where_it_can_be_kept(access: Access, on: bool) -> None:  # noqa: FBT001 - a table
    """On this machine, or with a login."""
    assert access.on is on


@pytest.mark.parametrize(
    ("access", "headers", "user"),
    [
        (Access("127.0.0.1"), {"host": "127.0.0.1:8088"}, "this machine"),
        (Access("127.0.0.1"), {"host": "localhost:8088"}, "this machine"),
        (Access("::1"), {"host": "[::1]:8088"}, "this machine"),
        (Access("127.0.0.1"), {"host": "evil.example:8088"}, ""),
        (Access("127.0.0.1"), {}, ""),
        (Access("127.0.0.1"), {"host": "127.0.0.1:8088", "x-forwarded-for": "203.0.113.7"}, ""),
        (Access("127.0.0.1", TOKEN), {"host": "127.0.0.1:8088"}, ""),
        (Access(EVERYWHERE, TOKEN), {"host": "127.0.0.1:8088"}, ""),
        (Access(EVERYWHERE, user_header="x-user"), {"x-user": "ana"}, "ana"),
        (Access(EVERYWHERE, user_header="x-user"), {"x-user": "  "}, ""),
        (Access("127.0.0.1", user_header="x-user"), {"host": "127.0.0.1"}, ""),
        (Access(EVERYWHERE), {"x-user": "ana", "host": "localhost"}, ""),
    ],
    ids=[
        "here",
        "here by name",
        "here by IPv6",
        "a name that another site gave us",
        "no name",
        "brought by a proxy",
        "a token is asked for here too",
        "a token is asked for",
        "a proxy names the user",
        "a proxy names no one",
        "the proxy was passed by",
        "a header that no one chose",
    ],
)
def test_who_may_look_without_a_login(access: Access, headers: dict[str, str], user: str) -> None:
    """Empty means no one."""
    assert access.user(headers, "", NOW) == user


def test_a_login_lasts_for_half_a_day() -> None:
    """And a cookie is good for its token only."""
    access, other = Access(EVERYWHERE, TOKEN), Access(EVERYWHERE, TOKEN + "2")
    cookie = access.login(TOKEN, NOW)

    assert cookie is not None
    assert access.user({}, cookie, NOW + LASTS - 1) != ""
    assert access.user({}, cookie, NOW + LASTS) == ""
    assert other.user({}, cookie, NOW) == ""


@pytest.mark.parametrize("cookie", ["", ".", "x.y", "9999999999.", "99999999999999999999.00", "²3.00", "1800009999.ab"])
def test_a_forged_cookie_opens_nothing(cookie: str) -> None:
    """Whatever it looks like."""
    assert Access(EVERYWHERE, TOKEN).user({}, cookie, NOW) == ""


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + " ", TOKEN[:-1], "ü"])
def test_a_wrong_token_gives_no_cookie(token: str) -> None:
    """Nor does an empty one where none is set."""
    assert Access(EVERYWHERE, TOKEN).login(token, NOW) is None
    assert Access("127.0.0.1").login(token, NOW) is None


@pytest.mark.parametrize(
    ("headers", "same"),
    [
        ({}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "cross-site", "origin": "http://a:1", "host": "a:1"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"origin": "http://a:1", "host": "a:1"}, True),
        ({"origin": "http://evil", "host": "a:1"}, False),
        ({"origin": "null", "host": "a:1"}, False),
    ],
)
def test_another_site_can_ask_for_nothing(headers: dict[str, str], same: bool) -> None:  # noqa: FBT001 - a table
    """Browsers say where a request comes from; other programs have no cookie that could be used."""
    assert same_origin(headers) is same


JSON = {"content-type": "application/json; charset=utf-8", "host": "a:1"}


@pytest.mark.parametrize(
    ("headers", "may"),
    [
        (JSON | {"sec-fetch-site": "same-origin"}, True),
        (JSON | {"origin": "https://a:1"}, True),
        (JSON, False),
        (JSON | {"sec-fetch-site": "none"}, False),
        (JSON | {"sec-fetch-site": "cross-site", "origin": "http://a:1"}, False),
        (JSON | {"origin": "http://evil"}, False),
        (JSON | {"sec-fetch-site": "same-origin", "content-type": "application/x-www-form-urlencoded"}, False),
        ({"sec-fetch-site": "same-origin"}, False),
    ],
)
def test_only_a_page_of_ours_may_act(headers: dict[str, str], may: bool) -> None:  # noqa: FBT001 - a table
    """Where a request comes from must be shown, and a form can't send JSON."""
    assert may_act(headers) is may
