"""A fast yes: compiles a JSON Schema to plain functions that say whether a value surely fits.

Ten thousand records are checked each time boards are made, and jsonschema takes milliseconds for
each. A yes from here is a yes of jsonschema. A no is none: whatever is rare or has subtle rules of
equality is left to jsonschema, which decides and says what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sized
from typing import Any

Test = Callable[[Any], bool]

_ASIDE = {"$schema", "$id", "$defs", "title", "description"}
_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def compiled(schema: Mapping[str, Any]) -> Test:
    """Makes the test of a schema whose ``$ref`` all begin with ``#/$defs/``.

    Raises:
        ValueError: the schema has a keyword that is not known here.
    """
    defs: dict[str, Test] = {}
    known = schema.get("$defs", {})

    def refer(name: str) -> Test:
        if name not in defs:
            defs[name] = lambda value: defs[name](value)  # a definition may hold itself
            defs[name] = _compiled(known[name], refer)
        return defs[name]

    return _compiled(schema, refer)


def pattern(text: str) -> re.Pattern[str]:
    """A JSON Schema pattern: only Python's ``$`` also matches before a final newline."""
    return re.compile(text.replace("$", r"\Z"))


def _compiled(schema: Mapping[str, Any], refer: Callable[[str], Test]) -> Test:
    tests: list[Test] = []
    for word, rule in schema.items():
        if word in _ASIDE:
            continue
        if word == "$ref":
            tests.append(refer(rule.removeprefix("#/$defs/")))
        elif word in _WORDS:
            tests.append(_WORDS[word](rule))
        elif word not in _OF_OBJECTS and word not in _OF_ARRAYS:
            raise ValueError(f"schema keyword {word!r} has no fast test")
    if _OF_OBJECTS & schema.keys():
        tests.append(_object(schema, refer))
    if _OF_ARRAYS & schema.keys():
        tests.append(_array(schema, refer))
    if len(tests) == 1:
        return tests[0]
    rest = tuple(tests)

    def every(value: Any) -> bool:
        return all(test(value) for test in rest)

    return every


def _type(rule: str | list[str]) -> Test:
    kinds = frozenset(
        kind for name in ([rule] if isinstance(rule, str) else rule) for kind in _KINDS[name]
    )
    return lambda value: type(value) in kinds


def _one_of(values: list[Any]) -> Test:
    texts = frozenset(v for v in values if isinstance(v, str))
    return lambda value: type(value) is str and value in texts


def _matches(text: str) -> Test:
    search = pattern(text).search
    return lambda value: type(value) is not str or search(value) is not None


def _number(holds: Callable[[Any], bool]) -> Test:
    return lambda value: type(value) not in (int, float) or holds(value)


def _sized(kind: type[Sized], holds: Callable[[int], bool]) -> Test:
    return lambda value: not isinstance(value, kind) or holds(len(value))


_WORDS: dict[str, Callable[[Any], Test]] = {
    "type": _type,
    "const": lambda rule: _one_of([rule]),
    "enum": _one_of,
    "pattern": _matches,
    "minimum": lambda rule: _number(lambda value: value >= rule),
    "maximum": lambda rule: _number(lambda value: value <= rule),
    "exclusiveMinimum": lambda rule: _number(lambda value: value > rule),
    "exclusiveMaximum": lambda rule: _number(lambda value: value < rule),
    "minLength": lambda rule: _sized(str, lambda n: n >= rule),
    "maxLength": lambda rule: _sized(str, lambda n: n <= rule),
    "minItems": lambda rule: _sized(list, lambda n: n >= rule),
    "maxItems": lambda rule: _sized(list, lambda n: n <= rule),
    "minProperties": lambda rule: _sized(dict, lambda n: n >= rule),
    "maxProperties": lambda rule: _sized(dict, lambda n: n <= rule),
}
_OF_OBJECTS = {"properties", "required", "additionalProperties", "propertyNames"}
_OF_ARRAYS = {"items", "uniqueItems"}


def _object(schema: Mapping[str, Any], refer: Callable[[str], Test]) -> Test:
    fields = {k: _compiled(v, refer) for k, v in schema.get("properties", {}).items()}
    required = frozenset(schema.get("required", ()))
    names = _compiled(schema["propertyNames"], refer) if "propertyNames" in schema else None
    other = schema.get("additionalProperties", True)
    rest = _compiled(other, refer) if isinstance(other, dict) else None

    def test(value: Any) -> bool:
        if type(value) is not dict:
            return not isinstance(value, dict)
        if not required <= value.keys():
            return False
        for key, item in value.items():
            if names is not None and not names(key):
                return False
            known = fields.get(key, rest)
            if known is None:
                if other is False:
                    return False
            elif not known(item):
                return False
        return True

    return test


def _array(schema: Mapping[str, Any], refer: Callable[[str], Test]) -> Test:
    items = _compiled(schema["items"], refer) if "items" in schema else None
    unique = schema.get("uniqueItems", False)

    def test(value: Any) -> bool:
        if type(value) is not list:
            return not isinstance(value, list)
        if items is not None and not all(map(items, value)):
            return False
        if not unique:
            return True
        kinds = set(map(type, value))
        return (kinds <= {str} or kinds == {int}) and len(set(value)) == len(value)

    return test
