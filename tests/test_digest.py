import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facebench import digest

# The example of RFC 8785, section 3.2.2 and 3.2.3.
RFC_INPUT = r"""{
  "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
  "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
  "literals": [null, true, false]
}"""
RFC_OUTPUT = (
    '{"literals":[null,true,false],'
    '"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
    '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
)


def test_canonical_is_that_of_the_rfc():
    assert digest.canonical(json.loads(RFC_INPUT)).decode() == RFC_OUTPUT


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(max_size=4)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), json_values, max_size=4))
def test_json_digest_does_not_depend_on_key_order_or_layout(value):
    try:
        expected = digest.of_json(value)
    except ValueError:  # a lone surrogate is no JSON string
        return
    assert digest.of_json(dict(reversed(value.items()))) == expected
    assert digest.of_json(json.loads(json.dumps(value, indent=3))) == expected


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), {1}, b"x", 2**60, "\ud800", {1: 2}])
def test_what_json_cannot_say_is_refused(bad):
    with pytest.raises(ValueError, match="not a JSON value"):
        digest.canonical({"a": bad})


def test_deep_nesting_is_refused():
    value: list = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="not a JSON value"):
        digest.canonical(value)


def test_bytes_files_and_lines(tmp_path):
    expected = "sha256:" + hashlib.sha256(b"a\nbc\n").hexdigest()
    assert digest.of_bytes(b"a\nbc\n") == expected
    assert digest.of_lines(["a", "bc"]) == expected
    assert digest.of_lines(["ab", "c"]) != expected
    assert digest.of_lines([]) == digest.of_bytes(b"")
    path = tmp_path / "f"
    path.write_bytes(b"a\nbc\n")
    assert digest.of_file(path) == expected
    assert digest.short(expected) == hashlib.sha256(b"a\nbc\n").hexdigest()[:12]


def test_array_digest_is_of_names_types_shapes_and_values():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    base = digest.of_arrays({"a": a, "b": np.array(True)})
    same = [
        {"b": np.array(True), "a": a},
        {"a": a.astype(">f4"), "b": np.array(True)},
        {"a": np.asfortranarray(a), "b": np.array(True)},
        {"a": np.repeat(a, 2, axis=0)[::2], "b": np.array(True)},
    ]
    assert {digest.of_arrays(s) for s in same} == {base}
    other = [
        {"a": a, "c": np.array(True)},
        {"a": a.astype(np.float64), "b": np.array(True)},
        {"a": a.reshape(3, 2), "b": np.array(True)},
        {"a": a, "b": np.array([True])},
        {"a": a, "b": np.array(False)},
        {"a": -a, "b": np.array(True)},
        {"a": a},
    ]
    digests = {digest.of_arrays(o) for o in other}
    assert len(digests | {base}) == len(other) + 1


def test_array_digest_is_as_written_down():
    # The rule by hand: canonical [name, type, shape], newline, little-endian bytes.
    data = b'["x","<i2",[2]]\n' + bytes([1, 0, 2, 1])
    assert digest.of_arrays({"x": np.array([1, 258], ">i2")}) == digest.of_bytes(data)


def test_arrays_of_objects_have_no_digest():
    with pytest.raises(ValueError, match="'x' holds Python objects"):
        digest.of_arrays({"x": np.array([{}])})
