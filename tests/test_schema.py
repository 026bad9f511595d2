"""The fast test of a schema against jsonschema: its yes is a yes, and what is in order gets one."""

import copy
import json

import numpy as np
import pytest

from facebench import schema
from facebench.schema import fast

KINDS = sorted(schema.VERSIONS)
STRANGE = [
    *(None, True, False, 0, 1, -1, 1.0, 0.5, 1e300, "", "x", "x\n", "sha256:" + "0" * 64),
    *("sha256:" + "0" * 64 + "\n", [], [1, 1], ["a", "a"], ["a", "b"], {}, {"a": 1}, "entry"),
]


def examples(repository, kind):
    base = repository / "leaderboards"
    folder = {"record": "records", "protocol": "protocols", "reported": "reported"}.get(kind)
    found = (
        [json.loads(p.read_text()) for p in sorted((base / folder).rglob("*.json"))]
        if folder
        else []
    )
    if kind in ("trial", "attestation"):
        return [minimal(schema._schema(kind))]
    return found[:12]


def minimal(rule, defs=None):
    """A value that fits a schema of ours, made from its words."""
    defs = defs or rule.get("$defs", {})
    if "$ref" in rule:
        return minimal(defs[rule["$ref"].rpartition("/")[2]], defs)
    if "const" in rule:
        return rule["const"]
    if "enum" in rule:
        return rule["enum"][0]
    kind = rule["type"] if isinstance(rule["type"], str) else rule["type"][0]
    if kind == "object":
        return {name: minimal(rule["properties"][name], defs) for name in rule.get("required", ())}
    if kind == "array":
        return [minimal(rule["items"], defs)] * rule.get("minItems", 0)
    if kind in ("integer", "number"):
        return rule.get("minimum", 1)
    known = {"^sha256": "sha256:" + "0" * 64, "^[a-z][a-z0-9_]*/": "a/b/c@1", "^[0-9][0-9.e": "1/0"}
    return next((v for k, v in known.items() if rule.get("pattern", "").startswith(k)), "1")


def places(value, path=()):
    yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in items:
        yield from places(item, (*path, key))


def changed(value, rng):
    """The value with one place replaced, removed, added to or repeated."""
    value = copy.deepcopy(value)
    found = [p for p in places(value) if p]
    *way, last = found[rng.integers(len(found))]
    parent = value
    for key in way:
        parent = parent[key]
    how = rng.integers(4)
    if how == 0:
        del parent[last]
    elif how == 1 and isinstance(parent, dict):
        parent["other"] = STRANGE[rng.integers(len(STRANGE))]
    elif how == 2 and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[last]))
    else:
        parent[last] = STRANGE[rng.integers(len(STRANGE))]
    return value


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_in_order_gets_a_fast_yes(repository, kind):
    found = examples(repository, kind)
    assert found
    for value in found:
        assert schema._validator(kind).is_valid(value)
        assert schema._fast(kind)(value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fast_yes_is_a_yes_of_jsonschema(repository, kind):
    rng = np.random.default_rng(7)
    values = examples(repository, kind)
    verdicts = []
    for i in range(400):
        value = changed(values[i % len(values)], rng)
        quick, slow = schema._fast(kind)(value), schema._validator(kind).is_valid(value)
        assert slow or not quick, value
        verdicts.append((quick, slow))
    assert {(False, False), (True, True)} <= set(verdicts)
    assert sum(quick for quick, _ in verdicts) >= 0.5 * sum(slow for _, slow in verdicts)


def test_a_keyword_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="'oneOf' has no fast test"):
        fast.compiled({"type": "object", "properties": {"a": {"oneOf": []}}})


def test_a_definition_may_hold_itself():
    tree = {"type": "array", "items": {"$ref": "#/$defs/tree"}}
    test = fast.compiled({"$ref": "#/$defs/tree", "$defs": {"tree": tree}})
    assert test([[], [[]]])
    assert not test([[], [1]])
