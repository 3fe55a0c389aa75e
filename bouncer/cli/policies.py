"""`bouncer policies`: the policies there are, and the page of each."""

from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from bouncer.cli.terminal import misused, out, print_json, refused

if TYPE_CHECKING:
    from bouncer.policy import Policy


def policies(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The policy whose page is wanted.")] = "",
    *,
    who: Annotated[bool, typer.Option("--who", help="Show who is what to a policy, instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", "-j", help="Answer in JSON.")] = False,
) -> None:
    """List the policies, or show the page of one: what it does, its options, an example."""
    from bouncer.cli import pages
    from bouncer.configuration.schema import options_schema

    if who:
        _show_who(as_json=as_json)
    elif not name:
        _show_all(as_json=as_json)
    elif as_json:
        policy = named(name)
        print_json(v=1, name=policy.name, page=pages.page(policy), options=options_schema(policy))
    else:
        _show_page(pages.page(named(name)) + "\n" + pages.common())


def _show_page(page: str) -> None:
    if out.is_terminal:
        from rich.markdown import Markdown

        out.print(Markdown(page), soft_wrap=False)
    else:
        typer.echo(page, nl=False)


def _show_all(*, as_json: bool) -> None:
    from bouncer.configuration.plugins import packages
    from bouncer.configuration.schema import summary
    from policies import BUILTIN

    lines = {policy.name: summary(policy) for policy in BUILTIN}
    for other, package in packages().items():
        lines.setdefault(other, f"(in the package {package})")
    if as_json:
        print_json(v=1, policies=[{"name": each, "summary": text} for each, text in lines.items()])
        return
    width = max(map(len, lines))
    for each, text in lines.items():
        out.print(Text.assemble((each.ljust(width), "bold"), "  ", text))


def _show_who(*, as_json: bool) -> None:
    """Show the table of roles, a row each: the first that fits a participant decides what it is."""
    from bouncer.cli.who import WHO

    if as_json:
        print_json(v=1, who=[row._asdict() for row in WHO])
        return
    out.print(Text("The first row that fits a participant decides what it is.\n"))
    for number, row in enumerate(WHO, start=1):
        out.print(Text(f"{number:>2}. {row.participant}"))
        evicted = row.may_be_evicted
        out.print(Text.assemble("    counts as ", (row.counts_as, "bold"), f"; may be evicted: {evicted}"))


def builtin(name: str) -> "type[Policy] | None":
    """Return the policy of this repository that has the name."""
    from policies import BUILTIN

    return next((policy for policy in BUILTIN if policy.name == name), None)


def named(name: str) -> "type[Policy]":
    """Return the policy of that name, loaded from its package if need be; end if there is none."""
    from bouncer.configuration.plugins import installed
    from policies import BUILTIN

    if policy := builtin(name):
        return policy
    if name not in installed():
        known = [*(policy.name for policy in BUILTIN), *installed()]
        close = get_close_matches(name, known, n=1)
        misused(
            f"there is no policy “{name}”"
            + (f"; did you mean “{close[0]}”?" if close else "; `bouncer policies` lists them")
        )
    try:
        return installed()[name]()
    except ValueError as error:
        refused(f"{name}: {error}")
