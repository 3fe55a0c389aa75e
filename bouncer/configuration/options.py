"""The options of a policy, from its fields: their schema, and the documentation under each."""

import ast
import inspect
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from itertools import pairwise
from textwrap import dedent
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, Field, create_model

from bouncer.configuration.model import STRICT, CommonOptions
from bouncer.policy import Action, Policy


@cache
def options_model(policy: type[Policy]) -> type[BaseModel]:
    """Return the schema of one policy's options: its own fields, then those that every policy takes."""
    hints = get_type_hints(policy, include_extras=True)
    docs = option_docs(policy)
    own: dict[str, Any] = {}
    for option in fields(policy):  # type: ignore[arg-type]
        default = option.default if option.default_factory is MISSING else option.default_factory()
        required = default is MISSING
        described = Field(description=docs.get(option.name, ""), alias=option.metadata.get("key"))
        own[option.name] = (Annotated[hints[option.name], described], ... if required else default)
    common: dict[str, Any] = {name: (info.annotation, info) for name, info in CommonOptions.model_fields.items()}
    action = CommonOptions.model_fields["action"]
    default_action = getattr(policy, "default_action", action.default)
    common["action"] = (Annotated[Action, Field(description=action.description)], default_action)
    return create_model(policy.__name__, __config__=STRICT, __doc__=policy.__doc__, **own, **common)


def own_keys(policy: type[Policy]) -> list[str]:
    """Return the keys of a policy's own options, as a configuration has them."""
    return [option.metadata.get("key", option.name) for option in fields(policy)]  # type: ignore[arg-type]


def option_docs(policy: type) -> Mapping[str, str]:
    """Return the string under each field of a policy; none of them where its source is not at hand.

    Rooms begin in threads of their own, and before Python 3.12 parsing fails if two threads do it at the same time.
    """
    try:
        tree = ast.parse(dedent(inspect.getsource(policy)))
    except (OSError, TypeError, SystemError):  # it depends on the version of Python
        return {}
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef))
    docs: dict[str, str] = {}
    for statement, following in pairwise(body):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = inspect.cleandoc(text)
            case _:
                pass
    return docs
