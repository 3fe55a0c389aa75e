"""What keeps a worker or a command from starting: each in one line, with the variable to make it right."""

import time
import warnings
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp
from livekit import api

from bouncer.configuration.settings import Credentials

WITHIN = 4.0
"""Seconds for the server to answer."""
CLOCK_OFF_BY = 60.0
"""Seconds by which our clock may differ from the server's; a token is valid for some minutes around its date."""
SCHEMES = ("ws", "wss", "http", "https")
PLACEHOLDERS = ("<", ">", "your-", "your_", "{", "}", "…", "...")
"""What is in a value that was copied from a document."""
PROBE = "/twirp/livekit.RoomService/ListRooms"


async def obstacle(credentials: Credentials, within: float = WITHIN) -> str:
    """Return why these credentials can't be used, in one line; an empty text if they can. It takes `within` seconds."""
    return _unusable(credentials) or await _refused(credentials, within)


def _unusable(credentials: Credentials) -> str:
    given = {
        "LIVEKIT_URL": credentials.url,
        "LIVEKIT_API_KEY": credentials.api_key,
        "LIVEKIT_API_SECRET": credentials.api_secret,
    }
    if missing := [variable for variable, value in given.items() if not value]:
        return f"{' and '.join(missing)}: not set; the worker needs the LiveKit server's address and an API key of it"
    url = credentials.url
    try:
        parts = urlsplit(url)
        usable = bool(parts.scheme in SCHEMES and parts.hostname and parts.port != 0)
    except ValueError:
        usable = False
    if not usable:
        return f"LIVEKIT_URL: must be like wss://my-project.livekit.cloud or ws://localhost:7880, not {url!r}"
    if "@" in url:
        return "LIVEKIT_URL: must have no user and no password in it; the key goes into LIVEKIT_API_KEY"
    for variable, value in given.items():
        if any(mark in value.lower() for mark in PLACEHOLDERS):
            shown = "" if variable == "LIVEKIT_API_SECRET" else f", {value!r}"
            return f"{variable}: still a placeholder{shown}; set it to your own server's"
    return ""


async def _refused(credentials: Credentials, within: float) -> str:
    url = credentials.url.rstrip("/")
    token = api.AccessToken(credentials.api_key, credentials.api_secret)
    with warnings.catch_warnings(action="ignore"):  # of a short secret, which is the server's affair
        bearer = token.with_grants(api.VideoGrants(room_list=True)).to_jwt()
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=within), trust_env=True) as session,
            session.post(
                "http" + url.removeprefix("http").removeprefix("ws") + PROBE,
                json={"names": ["bouncer-probe"]},
                headers={"Authorization": f"Bearer {bearer}"},
            ) as answer,
        ):
            text = (await answer.text(errors="replace")).replace(bearer, "…")
            return _objection(credentials, answer, " ".join(text.split())[:200])
    except (aiohttp.ClientError, OSError, ValueError) as error:  # a name that no host can have is a ValueError
        return f"LIVEKIT_URL: no LiveKit server answers at {url} ({str(error) or f'nothing within {within:g} s'})"


def _objection(credentials: Credentials, answer: aiohttp.ClientResponse, text: str) -> str:
    off = _clock_off(answer.headers.get("Date", ""), time.time())
    if abs(off) > CLOCK_OFF_BY:
        return (
            f"clock: this machine's is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} that of the server at "
            f"{credentials.url}; set it right, since LiveKit accepts keys by their date"
        )
    if answer.status == HTTPStatus.UNAUTHORIZED:
        if "api key" in text.lower():
            return (
                f"LIVEKIT_API_KEY: the server at {credentials.url} doesn't know the key {credentials.api_key!r} "
                f"(it answers {text!r})"
            )
        return (
            f"LIVEKIT_API_SECRET: isn't the secret of the key {credentials.api_key!r} on the server at "
            f"{credentials.url} (it answers {text!r})"
        )
    if answer.status == HTTPStatus.NOT_FOUND or (answer.ok and answer.content_type != "application/json"):
        return f"LIVEKIT_URL: what answers at {credentials.url} isn't a LiveKit server ({answer.status} {text!r})"
    return ""


def _clock_off(date: str, now: float) -> float:
    """Return by how many seconds our clock is ahead of an HTTP date; 0 if there is none."""
    try:
        return now - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return 0.0
