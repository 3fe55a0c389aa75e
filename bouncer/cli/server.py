"""What the verbs that talk to a LiveKit server share: their options, the server, and how they end.

    @on_server
    async def rooms(command: Invocation, ...) -> None:
        async with command.project() as project:
            ...

Results go to stdout, all else to stderr. An unreachable server, a refused key and an unknown room end the verb with
one line, and status 1.
"""

import asyncio
import inspect
import os
import signal
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer
from rich.text import Text

from bouncer.cli.terminal import err, misused, refused
from bouncer.plain import plain

if TYPE_CHECKING:
    from bouncer.adapter.project import Project
    from bouncer.cli.credentials import Found
    from bouncer.configuration.settings import Settings

P = ParamSpec("P")

RoomName = Annotated[str, typer.Argument(metavar="ROOM", help="The room's name.", show_default=False)]
Identity = Annotated[str, typer.Argument(metavar="IDENTITY", help="The participant's identity.", show_default=False)]
PLACES: Mapping[str, Any] = {
    "room": Annotated[
        str,
        typer.Option("--room", "-r", metavar="ROOM", help="The room, in place of the argument.", show_default=False),
    ],
    "identity": Annotated[
        str,
        typer.Option("--identity", "-i", metavar="IDENTITY", help="Likewise the participant.", show_default=False),
    ],
}
"""The arguments that may be given as options, as in `lk`."""


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """The options that all of these verbs take, as typer reads them."""

    as_json: Annotated[bool, typer.Option("--json", "-j", help="Answer in JSON.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but what is wrong.")] = False
    url: Annotated[str, typer.Option(metavar="URL", help="The LiveKit server.", show_default=False)] = ""
    api_key: Annotated[str, typer.Option(metavar="KEY", help="Its API key.", show_default=False)] = ""
    api_secret: Annotated[str, typer.Option(metavar="SECRET", help="That key's secret.", show_default=False)] = ""
    project: Annotated[str, typer.Option(metavar="NAME", help="A project of `lk`.", show_default=False)] = ""
    dev: Annotated[bool, typer.Option("--dev", help="A local `livekit-server --dev`.")] = False
    agent_name: Annotated[
        str, typer.Option(metavar="NAME", help="The bouncers' agent name; BOUNCER_AGENT_NAME.", show_default=False)
    ] = ""


@dataclass(frozen=True)
class Invocation:
    """How a verb was called."""

    options: ServerOptions

    @property
    def as_json(self) -> bool:
        """True if the answer is to be JSON."""
        return self.options.as_json

    @cached_property
    def settings(self) -> "Settings":
        """The worker's settings, as the environment and `.env.local` have them here; end if they are wrong."""
        from dotenv import load_dotenv

        from bouncer.configuration.plugins import installed
        from bouncer.configuration.settings import SettingsError, from_environment
        from policies import BUILTIN

        load_dotenv(".env.local")  # as for the worker; the environment itself wins
        try:
            return from_environment(os.environ, BUILTIN, installed())
        except SettingsError as error:
            refused(*str(error).splitlines())

    @property
    def agent_name(self) -> str:
        """The agent name of the bouncers."""
        return self.options.agent_name or self.settings.agent_name

    @property
    def asks(self) -> bool:
        """True if a person is there to answer a question."""
        return sys.stdin.isatty() and err.is_terminal

    @staticmethod
    def confirm(question: str) -> bool:
        """Ask a person, who may also answer with Ctrl-C: asyncio's own handler would wait for the answer first."""
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return typer.confirm(question, err=True)
        finally:
            signal.signal(signal.SIGINT, handler)

    def say(self, text: str, style: str = "dim") -> None:
        """Say on stderr what is being done, unless that is not wanted."""
        if not self.options.quiet:
            err.print(Text(plain(text), style))

    def credentials(self) -> "Found":
        """Return the credentials to use. Raises: CredentialsError."""
        from bouncer.cli.credentials import Asked, find

        given = self.options
        asked = Asked(
            url=given.url, api_key=given.api_key, api_secret=given.api_secret, project=given.project, dev=given.dev
        )
        return find(asked, os.environ, Path(), Path.home())

    @asynccontextmanager
    async def project(self) -> "AsyncIterator[Project]":
        """Open the server API with the credentials that `lk` would use, and say where they came from."""
        from bouncer.adapter.project import UnknownRoom, opened
        from bouncer.cli.credentials import CredentialsError
        from bouncer.ports import ApiError

        try:
            found = self.credentials()
        except CredentialsError as error:
            misused(str(error))
        self.say(f"using {found.source}")
        try:
            async with opened(found.credentials) as project:
                try:
                    yield project
                except UnknownRoom as error:
                    refused(await _unknown(str(error), project))
        except ApiError as error:
            refused(str(error))


async def _unknown(name: str, project: "Project") -> str:
    """Return that no such room is open, and what its name may have been meant to be."""
    from bouncer.ports import ApiError

    names: list[str] | None = None
    with suppress(ApiError, TimeoutError):
        async with asyncio.timeout(1):
            names = [room.name for room in await project.rooms()]
    if names == []:
        hint = "none is: a room opens when its first participant joins"
    elif close := get_close_matches(name, names or (), n=1):
        hint = f"did you mean “{close[0]}”?"
    else:
        hint = "`bouncer rooms` lists those that are"
    return f"no room “{name}” is open at {project.credentials.url}; {hint}"


def on_server(verb: Callable[Concatenate[Invocation, P], Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a command of a verb: it gets the options of all verbs, and a loop that ends at SIGTERM as at Ctrl-C."""

    def run(**given: Any) -> None:
        options = ServerOptions(**{name: given.pop(name) for name in shared})
        given |= _placed({name: (given.pop(name), given.pop(f"{name}_")) for name in places})
        try:
            with warnings.catch_warnings(action="ignore"):  # of a short secret, which is the server's affair
                asyncio.run(_until_ended(partial(verb, Invocation(options), **given)))
        except asyncio.CancelledError:
            raise typer.Exit(128 + signal.SIGTERM) from None

    shared = inspect.signature(ServerOptions).parameters
    signature = inspect.signature(verb)
    own = [
        each.replace(default="") if each.name in PLACES else each for each in list(signature.parameters.values())[1:]
    ]
    places = {each.name: PLACES[each.name] for each in own if each.name in PLACES}
    named = [
        inspect.Parameter(f"{name}_", inspect.Parameter.KEYWORD_ONLY, default="", annotation=annotation)
        for name, annotation in places.items()
    ]
    parameters = [*own, *named, *shared.values()]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__name__, run.__doc__ = verb.__name__, verb.__doc__
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _placed(given: dict[str, tuple[str, str]]) -> dict[str, str]:
    """Return the room and the identity. What an option gives, as in `lk`, leaves its place to the next argument."""
    arguments = [argument for argument, _ in given.values() if argument]
    placed = {name: option or (arguments.pop(0) if arguments else "") for name, (_, option) in given.items()}
    for name, value in placed.items():
        if not value:
            misused(f"the argument {name.upper()} is missing; --help shows what is taken")
    if arguments:
        misused(f"“{arguments[0]}” is an argument too many; --help shows what is taken")
    return placed


async def _until_ended(verb: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a verb until it is done or the process is asked to end; then it still cleans up."""
    task = asyncio.current_task()
    assert task  # noqa: S101 - we are in one
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await verb()
