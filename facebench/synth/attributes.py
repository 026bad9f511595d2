"""What a person would say about a face: yes or no, exactly, from what it was drawn from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from facebench.synth import people
from facebench.synth.actions import INDEX
from facebench.synth.hair import fringe_worn
from facebench.synth.numeric import Array
from facebench.synth.portrait import MAKEUP, Parameters

#: From this intensity on an action unit counts as shown (FACS grade B).
SHOWN = 0.4


class _Face:
    """What the rules read: looks and shape modes by name, action units by number."""

    def __init__(self, p: Parameters) -> None:
        self.p = p
        self.person = _become(p)
        self.style = self.person.style
        self.kinds = {occluder.kind for occluder in p.occluders}

    def look(self, name: str) -> float:
        return self.person.looks.get(name, 0.0)

    def mode(self, name: str) -> float:
        if name not in people.SHAPES:
            return 0.0
        return float(self.p.identity_vector[people.SHAPES.index(name)])

    def au(self, number: int) -> float:
        return float(self.p.au[INDEX[number]])

    def paint(self, layer: str) -> float:
        return float(self.p.makeup[MAKEUP.index(layer), 3])

    def light_of_hair(self) -> float:
        r, g, b = (float(v) for v in self.person.hair)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    def light_of_skin(self) -> float:
        r, g, b = (float(v) for v in self.person.skin)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    def hairy(self) -> bool:
        return self.style not in ("bald", "buzzed")

    def red_hair(self) -> bool:
        r, g, b = (float(v) for v in self.person.hair)
        return self.light_of_hair() > 0.02 and r > 2.3 * g and g > 1.6 * b

    def grey_hair(self) -> bool:
        return self.look("grey") >= 0.5


def _become(p: Parameters) -> people.Person:
    return people.become(p.identity_vector, p.age)


#: Attribute -> (what it means, its rule).
_RULES: dict[str, tuple[str, Callable[[_Face], bool]]] = {
    "bald": ("the hair style is bald", lambda f: f.style == "bald"),
    "buzzed hair": ("the hair style is buzzed", lambda f: f.style == "buzzed"),
    "long hair": ("the hair falls below the chin", lambda f: f.style == "long"),
    "curly hair": ("the hair style is curly", lambda f: f.style == "curly"),
    "fringe": (
        "hair hangs over the forehead",
        lambda f: fringe_worn(f.style, f.person.looks) > 0.0,
    ),
    "black hair": (
        "there is hair of luminance below 0.04 that is not grey",
        lambda f: f.style != "bald" and f.light_of_hair() < 0.04 and not f.grey_hair(),
    ),
    "blond hair": (
        "there is hair of luminance 0.10 or more that is neither red nor grey",
        lambda f: (
            f.style != "bald"
            and f.light_of_hair() >= 0.10
            and not f.red_hair()
            and not f.grey_hair()
        ),
    ),
    "red hair": (
        "there is hair, not grey, with red over 2.3 times green and green over 1.6 times blue",
        lambda f: f.style != "bald" and f.red_hair() and not f.grey_hair(),
    ),
    "grey hair": (
        "there is hair, half of it or more grey at that age",
        lambda f: f.style != "bald" and f.grey_hair(),
    ),
    "beard": (
        "hair on the chin: `beard` is 0.7 or more, `beard length` above 0.45 and below 0.87",
        lambda f: f.look("beard") >= 0.7 and 0.45 < f.look("beard length") < 0.87,
    ),
    "moustache": (
        "hair on the upper lip: `beard` is 0.7 or more, `beard length` above 0.45",
        lambda f: f.look("beard") >= 0.7 and f.look("beard length") > 0.45,
    ),
    "stubble": (
        "a shaven shadow: `beard` is 0.7 or more, `beard length` 0.45 or less",
        lambda f: f.look("beard") >= 0.7 and f.look("beard length") <= 0.45,
    ),
    "bushy brows": (
        "the look `brow thickness` is 0.75 or more",
        lambda f: f.look("brow thickness") >= 0.75,
    ),
    "big nose": (
        "the modes `nose width`, `nose length` and `nose height` sum to 1.5 or more",
        lambda f: f.mode("nose width") + f.mode("nose length") + f.mode("nose height") >= 1.5,
    ),
    "big lips": (
        "the modes `upper lip` and `lower lip` sum to 2 or more",
        lambda f: f.mode("upper lip") + f.mode("lower lip") >= 2.0,
    ),
    "round face": (
        "the modes `width` and `cheek fullness` less `length` sum to 1.5 or more",
        lambda f: f.mode("width") + f.mode("cheek fullness") - f.mode("length") >= 1.5,
    ),
    "pale skin": ("the skin's luminance is 0.45 or more", lambda f: f.light_of_skin() >= 0.45),
    "dark skin": ("the skin's luminance is below 0.15", lambda f: f.light_of_skin() < 0.15),
    "glasses": ("glasses or sunglasses", lambda f: bool(f.kinds & {"glasses", "sunglasses"})),
    "sunglasses": ("sunglasses", lambda f: "sunglasses" in f.kinds),
    "mask": ("a mask", lambda f: "mask" in f.kinds),
    "hand": ("a hand before the face", lambda f: "hand" in f.kinds),
    "makeup": (
        "eye shadow, eyeliner or blush of opacity 0.15 or more",
        lambda f: max(map(f.paint, ("eye shadow", "eyeliner", "blush"))) >= 0.15,
    ),
    "lipstick": ("painted lips of opacity 0.15 or more", lambda f: f.paint("lips") >= 0.15),
    "smiling": (
        "AU 12 at 0.4 or more, not on one side only",
        lambda f: f.au(12) >= SHOWN and abs(float(f.p.sides[INDEX[12]])) < 0.9,
    ),
    "mouth open": (
        "AU 25 at 0.4 or more, or AU 26 or 27 at 0.2 or more",
        lambda f: f.au(25) >= SHOWN or max(f.au(26), f.au(27)) >= 0.2,
    ),
    "eyes closed": (
        "AU 43 at 0.8 or more, on both sides",
        lambda f: f.au(43) >= 0.8 and abs(float(f.p.sides[INDEX[43]])) < 0.5,
    ),
    "young": ("30 years or younger", lambda f: f.p.age <= 30.0),
    "old": ("60 years or older", lambda f: f.p.age >= 60.0),
}

#: Names of the attributes, in the order of `attributes`.
ATTRIBUTES = tuple(_RULES)


def rule(name: str) -> str:
    """What an attribute means, in words.

    Raises:
        KeyError: there is no such attribute.
    """
    return _RULES[name][0]


def attributes(p: Parameters) -> Array:
    """What holds of a face: bool [A], in the order of `ATTRIBUTES`.

    Occluders and turns of the head do not change it: a beard behind a mask is a beard.
    """
    face = _Face(p)
    return np.array([test(face) for _, test in _RULES.values()], bool)
