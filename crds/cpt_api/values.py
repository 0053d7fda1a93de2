"""Quantities that parse once, compare by value and print one normal form.

>>> Tokens.parse("1.5B")
Tokens('1.5B')
>>> LearningRate.parse("10e-6") == LearningRate.parse("0.00001")
True
>>> str(LearningRate.parse("0.00030"))
'3e-4'

In manifests all of them are strings: a YAML float loses digits and prints differently on every machine, and a
digest must not depend on that.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any, ClassVar, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

_MULTIPLES = {"T": 10**12, "B": 10**9, "M": 10**6}


class _Text:
    """A value written as a string: parsed strictly, serialised in its normal form."""

    PATTERN: ClassVar[str]
    MAX_LENGTH: ClassVar[int] = 32
    RULE: ClassVar[str]

    @classmethod
    def parse(cls, text: str) -> Self:
        raise NotImplementedError

    @classmethod
    def _check(cls, value: Any) -> Self:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not a string: quote it; {cls.RULE}")
        if len(value) > cls.MAX_LENGTH or not re.fullmatch(cls.PATTERN, value):
            raise ValueError(f"{value!r}: expected {cls.RULE}")
        return cls.parse(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._check, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": f"^{cls.PATTERN}$", "maxLength": cls.MAX_LENGTH}


class Tokens(_Text, int):
    """A count of tokens; all counts are totals, replay and cooldown included."""

    PATTERN = r"[0-9]{1,18}(\.[0-9]{1,12})?[MBT]?"
    RULE = "a whole number of tokens, or one with M, B or T, such as '1.5B'"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError unless `text` names a whole number of tokens."""
        if not re.fullmatch(cls.PATTERN, text):
            raise ValueError(f"token count {text!r}: expected {cls.RULE}")
        multiple = _MULTIPLES.get(text[-1], 1)
        count = Fraction(text.rstrip("MBT")) * multiple
        if count.denominator != 1:
            raise ValueError(f"token count {text!r} is not a whole number of tokens; {cls.RULE}")
        return cls(count.numerator)

    def __str__(self) -> str:
        for suffix, multiple in _MULTIPLES.items():
            # three decimals keep the text readable; anything finer is printed in full
            if self >= multiple and (int(self) * 1000) % multiple == 0:
                return f"{_plain(Decimal(int(self)) / multiple)}{suffix}"
        return int.__repr__(self)

    def __repr__(self) -> str:
        return f"Tokens({str(self)!r})"

    def __format__(self, spec: str, /) -> str:
        """In f-strings the normal form, unless a format is asked for."""
        return int.__format__(self, spec) if spec else str(self)


class _Exact(_Text, Decimal):
    """An exact decimal; equal values are one value, however they were written."""

    def __str__(self) -> str:
        return _plain(Decimal(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __format__(self, specifier: str, context: Context | None = None) -> str:
        """In f-strings the normal form, unless a format is asked for."""
        return Decimal.__format__(self, specifier, context) if specifier else str(self)

    @property
    def fraction(self) -> Fraction:
        """The exact value, for arithmetic that must not round."""
        return Fraction(Decimal(self))


class LearningRate(_Exact):
    """A positive learning rate, such as '3e-5'."""

    PATTERN = r"[0-9]{1,12}(\.[0-9]{1,24})?([eE][-+]?[0-9]{1,2})?"
    RULE = "a positive decimal in quotes, such as '3e-5'"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError unless `text` is a positive decimal below 1000."""
        if not re.fullmatch(cls.PATTERN, text) or not 0 < Decimal(text) < 1000:
            raise ValueError(f"learning rate {text!r}: expected {cls.RULE}")
        return cls(Decimal(text).normalize())

    def __str__(self) -> str:
        _, digits, exponent = Decimal(self).normalize().as_tuple()
        mantissa = "".join(map(str, digits))
        power = int(exponent) + len(mantissa) - 1
        return f"{mantissa[0]}{'.' + mantissa[1:] if len(mantissa) > 1 else ''}e{power}"


class Share(_Exact):
    """A part of a whole, from 0 to 1, such as '0.05'."""

    PATTERN = r"(0(\.[0-9]{1,12})?|1(\.0{1,12})?)"
    RULE = "a decimal from 0 to 1 in quotes, such as '0.05'"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError unless `text` is a decimal from 0 to 1."""
        if not re.fullmatch(cls.PATTERN, text):
            raise ValueError(f"share {text!r}: expected {cls.RULE}")
        return cls(Decimal(text).normalize())


class Amount(_Exact):
    """A non-negative decimal in the unit of its field, such as a margin of '0.02' bits per byte."""

    PATTERN = r"[0-9]{1,12}(\.[0-9]{1,12})?([eE][-+]?[0-9]{1,2})?"
    RULE = "a non-negative decimal in quotes, such as '0.02'"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError unless `text` is a non-negative decimal."""
        if not re.fullmatch(cls.PATTERN, text):
            raise ValueError(f"number {text!r}: expected {cls.RULE}")
        return cls(Decimal(text).normalize())


class Digest(_Text, str):
    """64 hexadecimal digits: the SHA-256 of a canonical document or of bytes."""

    PATTERN = r"[0-9a-f]{64}"
    MAX_LENGTH = 64
    RULE = "64 lower-case hexadecimal digits (a SHA-256)"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError unless `text` is a SHA-256 in hexadecimal."""
        if not re.fullmatch(cls.PATTERN, text):
            raise ValueError(f"digest {text!r}: expected {cls.RULE}")
        return cls(text)

    @property
    def short(self) -> str:
        """For people: the first twelve digits."""
        return self[:12]


def _plain(value: Decimal) -> str:
    """Without exponent and without trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
