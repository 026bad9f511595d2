"""Action units move the landmarks that FACS says, the way it says."""

from __future__ import annotations

import numpy as np
import pytest

from facebench import synth

SIZE = 256


def points(**au: float) -> np.ndarray:
    levels = {int(name[2:]): level for name, level in au.items()}
    return synth.render(synth.face(au=levels), SIZE).points.astype(np.float64)


REST = points()
EYES = np.linalg.norm(REST[45] - REST[36])  # px between the outer corners of the eyes


def moved(**au: float) -> np.ndarray:
    """How far each point goes, in parts of the distance between the eyes; y up."""
    return (points(**au) - REST) / EYES * [1.0, -1.0]


def lips() -> tuple[int, int]:
    return 62, 66


def opening(p: np.ndarray) -> float:
    """Height of the two eyes' openings in parts of their rest."""
    gap = lambda q: (q[[41, 40, 47, 46], 1] - q[[37, 38, 44, 43], 1]).mean()  # noqa: E731
    return float(gap(p) / gap(REST))


def test_brows() -> None:
    inner, outer = [21, 22], [17, 18, 25, 26]
    one, two, four = moved(AU1=1), moved(AU2=1), moved(AU4=1)
    assert (one[inner, 1] > 0.05).all()
    assert (one[inner, 1] > 3 * np.abs(one[[17, 26], 1])).all()
    assert (two[outer, 1] > 0.04).all()
    assert (two[[18, 25], 1] > 2 * two[inner, 1]).all()
    assert (four[[20, 21, 22, 23], 1] < -0.03).all()
    assert four[21, 0] > 0.015  # together
    assert four[22, 0] < -0.015
    both = moved(AU1=1, AU4=1)  # sadness: the inner ends go up, and together
    assert (both[inner, 1] > both[[19, 24], 1]).all()


def test_lids() -> None:
    assert opening(points(AU43=1)) < 0.12
    assert 0.35 < opening(points(AU43=0.5)) < 0.65
    assert opening(points(AU5=1)) > 1.25
    assert opening(points(AU7=1)) < 0.75
    seven = moved(AU7=1)
    assert (seven[[40, 41, 46, 47], 1] > 0.01).all()  # the lower lids rise
    assert opening(points(AU6=1)) < 0.9
    assert opening(points(AU43=1, AU5=1, AU7=1)) > -0.01  # lids never cross


def test_smile_and_frown() -> None:
    smile, frown = moved(AU12=1), moved(AU15=1)
    assert (smile[[48, 54], 1] > 0.05).all()
    assert smile[54, 0] > 0.05
    assert smile[48, 0] < -0.05
    assert (frown[[48, 54], 1] < -0.05).all()
    assert np.abs(smile[[27, 28, 36, 45, 8]]).max() < 0.02  # the rest of the face stays
    half = moved(AU12=0.5)
    np.testing.assert_allclose(half[[48, 54]], smile[[48, 54]] / 2, atol=0.01)


def test_jaw() -> None:
    for name, least in (("AU26", 0.1), ("AU27", 0.17)):
        jaw = moved(**{name: 1.0})
        assert jaw[8, 1] < -least
        assert jaw[57, 1] < -0.7 * least
        assert np.abs(jaw[[0, 16, 27, 30, 33, 36, 45]]).max() < 0.02
        upper, lower = lips()
        assert jaw[upper, 1] - jaw[lower, 1] > 0.7 * least  # the mouth is open


def test_mouth() -> None:
    upper, lower = lips()
    width = lambda m: m[54, 0] - m[48, 0]  # noqa: E731
    gap = lambda m: m[upper, 1] - m[lower, 1]  # noqa: E731
    assert gap(moved(AU25=1)) > 0.04
    assert moved(AU10=1)[[50, 52], 1].min() > 0.03
    assert moved(AU16=1)[57, 1] < -0.03
    assert moved(AU17=1)[57, 1] > 0.02
    assert width(moved(AU18=1)) < -0.15
    assert width(moved(AU20=1)) > 0.12
    assert gap(moved(AU22=1)) > 0.03
    for name in ("AU23", "AU24", "AU28"):  # thinner lips
        thin = moved(**{name: 1.0})
        assert thin[51, 1] - thin[57, 1] < -0.05
        assert abs(gap(thin)) < 0.02
    assert moved(AU9=1)[[31, 35], 1].min() > 0.02


def test_every_action_unit_shows() -> None:
    rest = synth.render(synth.face(), 96).image.astype(int)
    for number in synth.ACTION_UNITS:
        image = synth.render(synth.face(au={number: 1.0}), 96).image
        assert (np.abs(image - rest) > 8).sum() > 60, number


def test_prototypes_are_made_of_known_action_units() -> None:
    assert tuple(synth.PROTOTYPES) == synth.EXPRESSIONS
    for units in synth.PROTOTYPES.values():
        assert set(units) <= set(synth.ACTION_UNITS)
    assert {6, 12} <= set(synth.PROTOTYPES["happy"])
    assert {1, 4, 15} <= set(synth.PROTOTYPES["sad"])
    assert {1, 2, 5, 26} <= set(synth.PROTOTYPES["surprise"])
    assert {1, 2, 4, 5, 20} <= set(synth.PROTOTYPES["fear"])
    assert {4, 5, 7, 23} <= set(synth.PROTOTYPES["anger"])


@pytest.mark.parametrize("expression", synth.EXPRESSIONS[1:])
def test_drawn_expressions_hold_their_action_units(expression: str) -> None:
    config = synth.WorldConfig(seed=8, identities=80, per_identity=1, expressive=1.0)
    k = synth.EXPRESSIONS.index(expression)
    drawn = [p for p in (synth.parameters(config, i) for i in range(80)) if p.expression == k]
    assert drawn
    for p in drawn:
        core = [synth.ACTION_UNITS.index(n) for n in synth.PROTOTYPES[expression]]
        assert (p.au[core] > 0).all()
        assert p.au.max() <= 1.0
