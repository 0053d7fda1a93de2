"""What every model of the API shares: strict, frozen, camelCase, and an identity that digests are made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel

from cpt_api.values import Digest

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", max_length=63)]
"""A DNS label: of a dataset, of a trial, of an object in the same namespace."""

Uri = Annotated[
    str,
    StringConstraints(
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_=+,@-]([A-Za-z0-9._=+,@-]*[A-Za-z0-9_=+,@-])?)*/?$",
        max_length=512,
    ),
]
"""An address in the store that the administrator configured: no credentials, no query, and no part that begins
or ends with a dot, so `..` cannot be written."""

Text = Annotated[str, StringConstraints(max_length=1024)]


class Unhashed:
    """Marks a field that says how or where, not what: it never enters a digest."""


class Model(BaseModel):
    """Unknown keys are errors, values do not change after validation, and names are camelCase outside."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        validate_default=True,
    )

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a manifest: camelCase, values in their normal form, absent fields absent."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def identity(self) -> dict[str, Any]:
        """What a digest hashes: every field that says *what*, defaults filled in, in normal form."""
        return {
            alias: identity_of(value)
            for name, alias in _hashed_fields(type(self))
            if (value := getattr(self, name)) is not None
        }


@cache
def _hashed_fields(model: type[Model]) -> tuple[tuple[str, str], ...]:
    """(name, name in a manifest); planning thousands of trials asks for it all the time."""
    fields = model.model_fields.items()
    return tuple((name, field.alias or name) for name, field in fields if Unhashed not in field.metadata)


def identity_of(value: Any) -> Any:
    """The identity of a model, or the plain JSON value of anything else; floats are refused."""
    if isinstance(value, Model):
        return value.identity()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bool | int) and type(value) in (bool, int):
        return value
    if isinstance(value, str | int | Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): identity_of(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [identity_of(item) for item in value]
    raise TypeError(f"{value!r} of type {type(value).__name__} has no identity: use a string quantity")


def canonical_json(value: Any) -> bytes:
    """Sorted keys, no spaces, UTF-8, no NaN: equal values give equal bytes on every machine."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256(data: bytes) -> Digest:
    """SHA-256 in hexadecimal."""
    return Digest(hashlib.sha256(data).hexdigest())
