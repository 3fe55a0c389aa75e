"""One call to LiveKit's server API, with a limit on its time and with our errors. Imports little, so it loads fast."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeVar

from livekit import api

from bouncer.ports import ApiError, Trouble

T = TypeVar("T")

CALL_WITHIN = 3.0
"""Seconds for one call to the server API; on loopback it takes 0.5 to 5 ms. The client's own limit is 300 s."""


async def answer_of(call: Callable[[], Awaitable[T]], within: float = CALL_WITHIN) -> T | None:
    """Make an API call. Return None if the server answers "not found".

    Raises: ApiError for every other failure.
    """
    try:
        async with asyncio.timeout(within):
            return await call()
    except api.TwirpError as error:
        if error.code == api.TwirpErrorCode.NOT_FOUND:
            return None
        raise _api_error(error) from None
    except TimeoutError:
        raise ApiError(Trouble.UNAVAILABLE, f"no answer within {within:g} s") from None
    except Exception as error:  # noqa: BLE001 - whatever the SDK makes of a dead line or of a proxy's own answer
        raise ApiError(Trouble.UNAVAILABLE, f"{type(error).__name__}: {error}") from None


def _api_error(error: api.TwirpError) -> ApiError:
    if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return ApiError(
            Trouble.DENIED,
            f"LiveKit denies it ({error.code}: {error.message}); LIVEKIT_API_KEY and LIVEKIT_API_SECRET must be a "
            "valid key of this server, since removing participants needs a token with roomAdmin for the room",
        )
    if error.status == HTTPStatus.TOO_MANY_REQUESTS or error.code == api.TwirpErrorCode.RESOURCE_EXHAUSTED:
        return ApiError(Trouble.THROTTLED, error.message)
    return ApiError(Trouble.UNAVAILABLE, f"{error.code}: {error.message}")
