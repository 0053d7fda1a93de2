"""What stands under a field or a member in the source. Python keeps no such docstring, so it is read from there.

    sentences(Reason)["NOT_ALLOWED"]        "Something that the administrator's lists do not allow."
    descriptions(Target)["minimumEffect"]   the same of a model's fields, by the name that they have in a manifest

pydantic could do it (`use_attribute_docstrings`), for every model whenever it is imported: a tenth of a second of
each command and each trial, for words that only generators and error messages want.

Price: a millisecond for a class, once.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from enum import Enum
from functools import cache
from textwrap import dedent

from cpt_api.model import Model


@cache
def sentences(kind: type[Model | Enum]) -> Mapping[str, str]:
    """By the name in the source; what has none is absent, and so is what is inherited."""
    (owner,) = ast.parse(dedent(inspect.getsource(kind))).body
    assert isinstance(owner, ast.ClassDef)
    found = {}
    for above, below in zip(owner.body, owner.body[1:], strict=False):
        match above, below:
            case (
                ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = inspect.cleandoc(text)
    return found


@cache
def descriptions(model: type[Model]) -> Mapping[str, str]:
    """Of a model's fields, inherited ones among them, by their names in a manifest."""
    owners = (owner for owner in reversed(model.__mro__) if issubclass(owner, Model))
    found = {name: text for owner in owners for name, text in sentences(owner).items()}
    return {field.alias or name: found[name] for name, field in model.model_fields.items() if name in found}
