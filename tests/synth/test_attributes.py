"""Attributes: each rule against a face that is made to have it, and one that is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from facebench import synth
from facebench.synth import people
from facebench.synth.attributes import rule
from facebench.synth.portrait import neutral_identity


def holds(p: synth.Parameters) -> set[str]:
    return {n for n, held in zip(synth.ATTRIBUTES, synth.attributes(p)) if held}


def person(looks: dict[str, float] | None = None, **modes: float) -> np.ndarray:
    vector = neutral_identity()
    for name, value in (looks or {}).items():
        vector[len(people.SHAPES) + people.LOOKS.index(name)] = value
    for name, value in modes.items():
        vector[people.SHAPES.index(name.replace("_", " "))] = value
    return vector


def styled(style: str) -> np.ndarray:
    """A person with a hair style, wherever it lies on the look."""
    for value in np.linspace(0, 0.9999, 400):
        vector = person({"hair style": float(value)})
        if people.become(vector).style == style:
            return vector
    raise AssertionError(style)


def painted(*layers: str) -> np.ndarray:
    out = np.zeros((4, 4))
    for layer in layers:
        out[synth.MAKEUP.index(layer)] = (0.5, 0.1, 0.1, 0.6)
    return out


CASES: dict[str, dict[str, object]] = {
    "bald": {"identity": styled("bald")},
    "buzzed hair": {"identity": styled("buzzed")},
    "long hair": {"identity": styled("long")},
    "black hair": {"identity": person({"hair darkness": 0.99})},
    "blond hair": {"identity": person({"hair darkness": 0.02, "melanin": 0.0, "hair redness": 0})},
    "red hair": {"identity": person({"hair darkness": 0.3, "melanin": 0.0, "hair redness": 0.99})},
    "beard": {"identity": person({"beard": 0.99, "beard length": 0.7})},
    "moustache": {"identity": person({"beard": 0.99, "beard length": 0.95})},
    "stubble": {"identity": person({"beard": 0.99, "beard length": 0.2})},
    "bushy brows": {"identity": person({"brow thickness": 0.9})},
    "big nose": {"identity": person(nose_width=1.0, nose_length=1.0)},
    "big lips": {"identity": person(upper_lip=1.2, lower_lip=1.2)},
    "round face": {"identity": person(width=1.0, cheek_fullness=1.0)},
    "pale skin": {"identity": person({"melanin": 0.0})},
    "dark skin": {"identity": person({"melanin": 0.99})},
    "glasses": {"occluders": (synth.Occluder("glasses"),)},
    "sunglasses": {"occluders": (synth.Occluder("sunglasses"),)},
    "mask": {"occluders": (synth.Occluder("mask"),)},
    "hand": {"occluders": (synth.Occluder("hand"),)},
    "makeup": {"makeup": painted("eye shadow")},
    "lipstick": {"makeup": painted("lips")},
    "smiling": {"expression": "happy"},
    "mouth open": {"au": {27: 1.0}},
    "eyes closed": {"au": {43: 1.0}},
    "young": {"age": 20.0},
    "old": {"age": 80.0},
}
#: What comes along.
TOO = {
    "sunglasses": {"glasses"}, "beard": {"moustache"}, "smiling": {"mouth open"},
    "blond hair": {"pale skin"}, "red hair": {"pale skin"},
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_face_made_to_have_it_has_it(name: str) -> None:
    plain = holds(synth.face(age=40.0))
    given = {"age": 40.0, **CASES[name]}
    found = holds(synth.face(**given))  # type: ignore[arg-type]
    assert name in found
    assert name not in plain or name == "young"
    hair = {n for n in synth.ATTRIBUTES if "hair" in n}
    extra = found - plain - {name} - TOO.get(name, set())
    assert not extra - hair


def test_grey_hair_by_look_or_age() -> None:
    if "grey hair" in holds(synth.face(age=30.0)):
        pytest.fail("the mean person of 30 is not grey")
    grey = person({"grey": 1.0})
    assert "grey hair" in holds(synth.face(identity=grey, age=85.0))


def test_styles_and_fringe_that_exist_are_reported() -> None:
    if "curly" in people.STYLES:
        assert "curly hair" in holds(synth.face(identity=styled("curly")))
    if "fringe" in people.LOOKS:
        assert "fringe" in holds(synth.face(identity=person({"fringe": 0.9})))
        assert "fringe" not in holds(synth.face(identity=person({"fringe": 0.2})))
        bald = styled("bald")
        bald[len(people.SHAPES) + people.LOOKS.index("fringe")] = 0.9
        assert "fringe" not in holds(synth.face(identity=bald))


def test_one_side_is_no_smile_and_a_wink_no_closed_eyes() -> None:
    sides = np.zeros(24)
    sides[synth.ACTION_UNITS.index(12)] = sides[synth.ACTION_UNITS.index(43)] = 1.0
    p = replace(synth.face(au={12: 1.0, 43: 1.0}), sides=sides)
    assert not holds(p) & {"smiling", "eyes closed"}
    assert {"smiling", "eyes closed"} <= holds(replace(p, sides=np.zeros(24)))


def test_what_covers_or_turns_a_face_changes_nothing_else() -> None:
    p = synth.face(identity=person({"beard": 0.99, "beard length": 0.7}), expression="happy")
    covered = replace(p, occluders=(synth.Occluder("mask"),), pose=np.array([1.2, 0, 0]))
    assert holds(covered) - holds(p) == {"mask"}


def test_names_and_rules() -> None:
    assert len(set(synth.ATTRIBUTES)) == len(synth.ATTRIBUTES) >= 20
    assert all(rule(name) for name in synth.ATTRIBUTES)
    found = synth.attributes(synth.face())
    assert found.dtype == np.bool_
    assert found.shape == (len(synth.ATTRIBUTES),)


def test_the_world_has_all_of_them_in_some_faces() -> None:
    config = synth.WorldConfig(
        seed=6, identities=500, per_identity=1, occlusion=0.3, glasses=0.2, makeup=0.3
    )
    share = np.mean([synth.attributes(synth.parameters(config, i)) for i in range(500)], axis=0)
    for name, s in zip(synth.ATTRIBUTES, share):
        if name in ("curly hair", "fringe") and s == 0:
            assert "curly" not in people.STYLES or "fringe" not in people.LOOKS
        elif name in ("red hair", "eyes closed"):
            assert s < 0.2
        else:
            assert 0.005 < s < 0.75, name
