"""What points, action units and expressions are: their names, order, flips, regions and distances.

Facts only, no computation: readers, transforms, heads and the judge all ask this one table. "Left"
is the left of the image throughout, so the left eye is the subject's right one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Normaliser:
    """A length that landmark errors are divided by.

    Attributes:
        kind: ``points``: the distance between the mean of the `left` points and the mean of the
            `right` points; ``box``: ``sqrt(w * h)`` of a box; ``diagonal``: ``sqrt(w^2 + h^2)``.
        left: indices of the points at the left end (``points`` only).
        right: indices of the points at the right end (``points`` only).
        tight: for boxes: always the tight box of the true points, even where a box is given.
    """

    kind: str
    left: tuple[int, ...] = ()
    right: tuple[int, ...] = ()
    tight: bool = False


@dataclass(frozen=True)
class Scheme:
    """One way to put K points on a face.

    Attributes:
        name: the name that conventions start with (``"68"``).
        points: K.
        flip: the permutation that renames points after mirroring: ``new[i] = old[flip[i]]``, then
            ``x -> W - 1 - x``. An involution.
        regions: groups that together hold every point once: ``jaw`` (with the chin),
            ``left_brow``, ``right_brow``, ``nose``, ``left_eye``, ``right_eye`` (with the pupils)
            and ``mouth``.
        normalisers: named lengths; convention ``68-inter-ocular`` is ``inter-ocular`` of scheme 68.
        note: where the scheme is used.
    """

    name: str
    points: int
    flip: tuple[int, ...]
    regions: Mapping[str, tuple[int, ...]]
    normalisers: Mapping[str, Normaliser]
    note: str


def _span(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last + 1))


def _flip(points: int, pairs: str, fixed: str) -> tuple[int, ...]:
    """Spells out an involution from its swapped pairs (``"0:16 1:15"``) and its fixed points.

    Runs are written ``a-b:c-d``: a swaps with c, a+1 with c-1 or c+1, ... up to b with d.
    """
    flip: dict[int, int] = {}
    for pair in pairs.split():
        left, right = pair.split(":")
        ends = [[int(i) for i in side.split("-")] for side in (left, right)]
        (a, b), (c, d) = ((e[0], e[-1]) for e in ends)
        step = 1 if d >= c else -1
        for i, j in zip(range(a, b + 1), range(c, d + step, step), strict=True):
            flip[i], flip[j] = j, i
    for item in fixed.split():
        first, *last = (int(i) for i in item.split("-"))
        flip.update((i, i) for i in _span(first, last[0] if last else first))
    return tuple(flip[i] for i in range(points))


def _scheme(
    points: int,
    flip: tuple[int, ...],
    regions: dict[str, tuple[int, ...]],
    ocular: tuple[int, int],
    pupil: tuple[tuple[int, ...], tuple[int, ...]],
    note: str,
) -> Scheme:
    normalisers = {
        "inter-ocular": Normaliser("points", (ocular[0],), (ocular[1],)),
        "inter-pupil": Normaliser("points", *pupil),
        "box": Normaliser("box"),
        "diagonal": Normaliser("diagonal"),
        "tight-box": Normaliser("box", tight=True),
        "tight-diagonal": Normaliser("diagonal", tight=True),
    }
    return Scheme(
        name=str(points),
        points=points,
        flip=flip,
        regions=MappingProxyType(regions),
        normalisers=MappingProxyType(normalisers),
        note=note,
    )


_68 = _scheme(
    68,
    _flip(
        68,
        "0-7:16-9 17-21:26-22 31-32:35-34 36-39:45-42 40-41:47-46 48-50:54-52 55-56:59-58"
        " 60-61:64-63 65:67",
        "8 27-30 33 51 57 62 66",
    ),
    {
        "jaw": _span(0, 16),
        "left_brow": _span(17, 21),
        "right_brow": _span(22, 26),
        "nose": _span(27, 35),
        "left_eye": _span(36, 41),
        "right_eye": _span(42, 47),
        "mouth": _span(48, 67),
    },
    ocular=(36, 45),
    pupil=(_span(36, 41), _span(42, 47)),
    note="300-W, COFW-68, 300VW, AFLW2000-3D; a pupil is the mean of its six eye points",
)

_98 = _scheme(
    98,
    _flip(
        98,
        "0-15:32-17 33-37:46-42 38-41:50-47 55-56:59-58 60-64:72-68 65-67:75-73 76-78:82-80"
        " 83-84:87-86 88-89:92-91 93:95 96:97",
        "16 51-54 57 79 85 90 94",
    ),
    {
        "jaw": _span(0, 32),
        "left_brow": _span(33, 41),
        "right_brow": _span(42, 50),
        "nose": _span(51, 59),
        "left_eye": (*_span(60, 67), 96),
        "right_eye": (*_span(68, 75), 97),
        "mouth": _span(76, 95),
    },
    ocular=(60, 72),
    pupil=((96,), (97,)),
    note="WFLW",
)

_29 = _scheme(
    29,
    _flip(29, "0:1 2:3 4-5:6-7 8:9 10:11 12-13:14-15 16:17 18:19 22:23", "20 21 24-28"),
    {
        "jaw": (28,),
        "left_brow": (0, 2, 4, 5),
        "right_brow": (1, 3, 6, 7),
        "nose": _span(18, 21),
        "left_eye": (8, 10, 12, 13, 16),
        "right_eye": (9, 11, 14, 15, 17),
        "mouth": _span(22, 27),
    },
    ocular=(8, 9),
    pupil=((16,), (17,)),
    note="COFW",
)

_19 = _scheme(
    19,
    _flip(19, "0-2:5-3 6-8:11-9 12:14 15:17", "13 16 18"),
    {
        "jaw": (18,),
        "left_brow": _span(0, 2),
        "right_brow": _span(3, 5),
        "nose": _span(12, 14),
        "left_eye": _span(6, 8),
        "right_eye": _span(9, 11),
        "mouth": _span(15, 17),
    },
    ocular=(6, 11),
    pupil=((7,), (10,)),
    note="AFLW-19; a pupil is the eye's centre point",
)

_106 = _scheme(
    106,
    _flip(
        106,
        "0-15:32-17 33-37:46-42 38-41:50-47 55-59:65-61 66-70:79-75 71-73:82-80 74:83 84-86:90-88"
        " 91-92:95-94 96-97:100-99 101:103 104:105",
        "16 51-54 60 87 93 98 102",
    ),
    {
        "jaw": _span(0, 32),
        "left_brow": _span(33, 41),
        "right_brow": _span(42, 50),
        "nose": _span(51, 65),
        "left_eye": (*_span(66, 74), 104),
        "right_eye": (*_span(75, 83), 105),
        "mouth": _span(84, 103),
    },
    ocular=(66, 79),
    pupil=((104,), (105,)),
    note="LaPa",
)

#: Every landmark scheme, by its number of points.
SCHEMES: Mapping[int, Scheme] = MappingProxyType({s.points: s for s in (_68, _98, _29, _19, _106)})

#: Facial action units by their FACS number (Ekman, Friesen and Hager 2002).
AU_NAMES: Mapping[int, str] = MappingProxyType(
    {
        1: "inner brow raiser",
        2: "outer brow raiser",
        4: "brow lowerer",
        5: "upper lid raiser",
        6: "cheek raiser",
        7: "lid tightener",
        9: "nose wrinkler",
        10: "upper lip raiser",
        11: "nasolabial deepener",
        12: "lip corner puller",
        13: "sharp lip puller",
        14: "dimpler",
        15: "lip corner depressor",
        16: "lower lip depressor",
        17: "chin raiser",
        18: "lip pucker",
        20: "lip stretcher",
        22: "lip funneler",
        23: "lip tightener",
        24: "lip pressor",
        25: "lips part",
        26: "jaw drop",
        27: "mouth stretch",
        28: "lip suck",
        43: "eyes closed",
        45: "blink",
        46: "wink",
    }
)

#: Expression classes in AffectNet's order; the first seven are the classes without contempt.
EXPRESSIONS: tuple[str, ...] = (
    "neutral",
    "happy",
    "sad",
    "surprise",
    "fear",
    "disgust",
    "anger",
    "contempt",
)

#: The order in which a dataset numbers its expressions, by the folder name of its builder. Join by
#: name, never by number: no two of these agree. Place 0 is the dataset's lowest id, which is 1 in
#: RAF-DB's list (`EXPRESSION_FIRST_ID`) and 0 elsewhere. FER+ is in the order of its vote columns,
#: without its last two, "unknown" and "NF"; SFEW has no ids but folders, here in sorted order.
#: ExpW's could not be confirmed from a public source. AffectNet's ids 8 to 10 (none, uncertain, no
#: face) are no expressions.
EXPRESSION_ORDERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "affectnet": EXPRESSIONS,
        "ck_plus": (
            "neutral",
            "anger",
            "contempt",
            "disgust",
            "fear",
            "happy",
            "sad",
            "surprise",
        ),
        "expw": ("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral"),
        "fer2013": ("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral"),
        "ferplus": (
            "neutral",
            "happy",
            "surprise",
            "sad",
            "anger",
            "disgust",
            "fear",
            "contempt",
        ),
        "raf_db": ("surprise", "fear", "disgust", "happy", "sad", "anger", "neutral"),
        "sfew": ("anger", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
    }
)

#: The id of place 0 of `EXPRESSION_ORDERS` in the dataset's own files, where it is not 0.
EXPRESSION_FIRST_ID: Mapping[str, int] = MappingProxyType({"raf_db": 1})

#: Classes of a parse mask (LaPa, HELEN, iBugMask); left is the image's left on a frontal face.
PARSE: tuple[str, ...] = (
    "background",
    "skin",
    "left brow",
    "right brow",
    "left eye",
    "right eye",
    "nose",
    "upper lip",
    "inner mouth",
    "lower lip",
    "hair",
)

#: The class in a mirror image of each class of `PARSE`.
PARSE_FLIP: tuple[int, ...] = (0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10)
