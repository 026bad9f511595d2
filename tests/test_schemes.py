"""The table of schemes against published lists and against itself."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from facebench.schemes import (
    AU_NAMES,
    EXPRESSION_FIRST_ID,
    EXPRESSION_ORDERS,
    EXPRESSIONS,
    SCHEMES,
)

IDS = sorted(SCHEMES)

# Points that mirror onto themselves, from the published annotation guides.
FIXED = {
    68: {8, *range(27, 31), 33, 51, 57, 62, 66},
    98: {16, *range(51, 55), 57, 79, 85, 90, 94},
    29: {20, 21, *range(24, 29)},
    19: {13, 16, 18},
    106: {16, *range(51, 55), 60, 87, 93, 98, 102},
}


# The permutations as the field's training codes list them, number by number.
LISTED = {
    68: """
        16 15 14 13 12 11 10 9 8 7 6 5 4 3 2 1 0 26 25 24 23 22 21 20 19 18 17 27 28 29 30
        35 34 33 32 31 45 44 43 42 47 46 39 38 37 36 41 40 54 53 52 51 50 49 48 59 58 57 56
        55 64 63 62 61 60 67 66 65
    """,
    98: """
        32 31 30 29 28 27 26 25 24 23 22 21 20 19 18 17 16 15 14 13 12 11 10 9 8 7 6 5 4 3 2
        1 0 46 45 44 43 42 50 49 48 47 37 36 35 34 33 41 40 39 38 51 52 53 54 59 58 57 56 55
        72 71 70 69 68 75 74 73 64 63 62 61 60 67 66 65 82 81 80 79 78 77 76 87 86 85 84 83
        92 91 90 89 88 95 94 93 97 96
    """,
    29: """
        1 0 3 2 6 7 4 5 9 8 11 10 14 15 12 13 17 16 19 18 20 21 23 22 24 25 26 27 28
    """,
    19: """
        5 4 3 2 1 0 11 10 9 8 7 6 14 13 12 17 16 15 18
    """,
    106: """
        32 31 30 29 28 27 26 25 24 23 22 21 20 19 18 17 16 15 14 13 12 11 10 9 8 7 6 5 4 3 2
        1 0 46 45 44 43 42 50 49 48 47 37 36 35 34 33 41 40 39 38 51 52 53 54 65 64 63 62 61
        60 59 58 57 56 55 79 78 77 76 75 82 81 80 83 70 69 68 67 66 73 72 71 74 90 89 88 87
        86 85 84 95 94 93 92 91 100 99 98 97 96 103 102 101 105 104
    """,
}


@pytest.mark.parametrize("points", IDS)
def test_flip_is_an_involution_with_the_published_fixed_points(points):
    flip = np.array(SCHEMES[points].flip)
    assert sorted(flip) == list(range(points))
    assert (flip[flip] == np.arange(points)).all()
    assert set(np.flatnonzero(flip == np.arange(points))) == FIXED[points]


@pytest.mark.parametrize("points", IDS)
def test_regions_hold_every_point_once_and_mirror_onto_each_other(points):
    scheme = SCHEMES[points]
    regions = scheme.regions
    assert sorted(i for group in regions.values() for i in group) == list(range(points))
    mirrored = {name: {scheme.flip[i] for i in group} for name, group in regions.items()}
    for left, right in (("left_eye", "right_eye"), ("left_brow", "right_brow")):
        assert mirrored[left] == set(regions[right])
    for name in ("jaw", "nose", "mouth"):
        assert mirrored[name] == set(regions[name])


@pytest.mark.parametrize("points", IDS)
def test_ends_of_every_length_mirror_onto_each_other_and_lie_in_the_eyes(points):
    scheme = SCHEMES[points]
    for name in ("inter-ocular", "inter-pupil"):
        normaliser = scheme.normalisers[name]
        assert {scheme.flip[i] for i in normaliser.left} == set(normaliser.right)
        assert set(normaliser.left) <= set(scheme.regions["left_eye"])


@pytest.mark.parametrize("points", IDS)
def test_flip_is_the_listed_one(points):
    assert SCHEMES[points].flip == tuple(int(i) for i in LISTED[points].split())


def test_names_are_distinct():
    assert len(set(AU_NAMES.values())) == len(AU_NAMES)
    assert len(set(EXPRESSIONS)) == len(EXPRESSIONS) == 8
    assert EXPRESSIONS[0] == "neutral"
    assert EXPRESSIONS[-1] == "contempt"
    assert AU_NAMES[12] == "lip corner puller"


OFFICIAL = {
    "affectnet": "0 Neutral 1 Happy 2 Sad 3 Surprise 4 Fear 5 Disgust 6 Anger 7 Contempt",
    "ck_plus": "0 neutral 1 anger 2 contempt 3 disgust 4 fear 5 happy 6 sadness 7 surprise",
    "fer2013": "0 Angry 1 Disgust 2 Fear 3 Happy 4 Sad 5 Surprise 6 Neutral",
    "ferplus": "0 neutral 1 happiness 2 surprise 3 sadness 4 anger 5 disgust 6 fear 7 contempt",
    "raf_db": "1 Surprise 2 Fear 3 Disgust 4 Happiness 5 Sadness 6 Anger 7 Neutral",
    "sfew": "0 Angry 1 Disgust 2 Fear 3 Happy 4 Neutral 5 Sad 6 Surprise",
}
SPELLINGS = {"angry": "anger", "happiness": "happy", "sadness": "sad"}


def test_orders_of_expressions_are_the_official_ids():
    assert OFFICIAL.keys() | {"expw"} == EXPRESSION_ORDERS.keys()  # ExpW's could not be confirmed
    for dataset, listed in OFFICIAL.items():
        words = listed.lower().split()
        first, order = EXPRESSION_FIRST_ID.get(dataset, 0), EXPRESSION_ORDERS[dataset]
        ids = {SPELLINGS.get(name, name): int(number) for number, name in zip(*[iter(words)] * 2)}
        assert {name: first + place for place, name in enumerate(order)} == ids
        assert set(order) <= set(EXPRESSIONS)


def test_no_two_datasets_number_their_expressions_alike():
    for a, b in itertools.combinations(OFFICIAL, 2):
        common = [n for n in EXPRESSION_ORDERS[a] if n in EXPRESSION_ORDERS[b]]
        assert len(common) >= 7
        wrong = [
            n for n in common
            if EXPRESSION_ORDERS[a].index(n) != EXPRESSION_ORDERS[b].index(n)
        ]  # fmt: skip
        assert wrong, (a, b)


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        SCHEMES[5] = SCHEMES[68]
    with pytest.raises(AttributeError):
        SCHEMES[68].points = 5
