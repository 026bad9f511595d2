"""Action units move what FACS says, the way it says, there and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from facebench import schemes, synth
from facebench.synth import actions, head, mesh
from facebench.synth.portrait import Parameters, neutral_identity

N = len(actions.ACTION_UNITS)


def parameters(au: dict[int, float], **others: object) -> Parameters:
    levels = np.zeros(N)
    for number, level in au.items():
        levels[actions.INDEX[number]] = level
    return Parameters(au=levels, **others)  # type: ignore[arg-type]


def shape(au: dict[int, float]) -> np.ndarray:
    return mesh.shape(parameters(au))[0]


REST = shape({})
POINTS = mesh.landmarks(REST)
EYES = float(np.linalg.norm(POINTS[:, 45] - POINTS[:, 36]))  # cm between the outer corners


def points(**au: float) -> np.ndarray:
    return mesh.landmarks(shape({int(name[2:]): level for name, level in au.items()})).T


def moved(**au: float) -> np.ndarray:
    """How far each of the 68 points goes, in parts of the distance between the eyes; y up."""
    return (points(**au) - POINTS.T) / EYES


def opening(**au: float) -> float:
    """Height of the two eyes' openings in parts of their rest."""
    gap = lambda q: (q[[37, 38, 44, 43], 1] - q[[41, 40, 47, 46], 1]).mean()  # noqa: E731
    return float(gap(points(**au)) / gap(POINTS.T))


#: Where each action unit acts (the middle of these of the 68 points on the right of the image,
#: plus cm upwards) and how far its centre of displacement may be off, cm. From the muscle's place
#: in the FACS manual and the usual centres on 68 points.
PLACES: dict[int, tuple[tuple[int, ...], float, float]] = {
    1: ((22,), 0.6, 1.3), 2: ((25,), 0.5, 1.3), 4: ((22, 24), 0.0, 1.3), 5: ((43, 44), 0.0, 1.1),
    6: ((46, 47), -1.6, 1.5), 7: ((43, 44, 46, 47), 0.0, 1.1), 9: ((35,), 1.5, 2.2),
    10: ((52, 53, 35), 0.0, 1.2), 11: ((35, 53), 0.0, 1.5), 12: ((54,), 0.5, 1.5),
    14: ((54,), 0.0, 1.1), 15: ((54,), 0.0, 1.2), 16: ((56, 57), 0.0, 1.2), 17: ((57, 8), 0.3, 1.6),
    18: ((52, 54, 56), 0.0, 1.3), 20: ((54,), 0.0, 1.4), 22: ((52, 54, 56), 0.0, 1.3),
    23: ((52, 54, 56), 0.0, 1.3), 24: ((52, 54, 56), 0.0, 1.5), 25: ((66, 56), 0.0, 1.2),
    26: ((8, 10, 57), 0.0, 1.5), 27: ((8, 10, 57), 0.0, 1.5), 28: ((52, 54, 56), 0.0, 1.3),
    43: ((43, 44), 0.0, 1.1),
}  # fmt: skip

#: Regions that an action unit must leave alone.
ALONE = {
    "brow": {5, 7, 10, 11, 12, 14, 15, 16, 17, 18, 20, 22, 23, 24, 25, 26, 27, 28},
    "mouth": {1, 2, 4, 5, 7, 43},
    "chin": {1, 2, 4, 5, 6, 7, 9, 10, 11, 43},
    "ear": set(actions.ACTION_UNITS),
    "scalp": set(actions.ACTION_UNITS) - {1, 2},
    "shoulders": set(actions.ACTION_UNITS),
}


def test_names() -> None:
    assert len(actions.ACTION_UNITS) == 24
    assert set(actions.ACTION_UNITS) <= set(schemes.AU_NAMES)
    assert set(PLACES) == set(actions.EXTRAS) == set(actions.ACTION_UNITS)


@pytest.mark.parametrize("number", actions.ACTION_UNITS)
def test_an_action_unit_acts_where_facs_says(number: int) -> None:
    d = np.linalg.norm(shape({number: 1.0}) - REST, axis=0)
    right = (REST[0] > 0) & (np.arange(REST.shape[1]) < head.SHEET)
    centre = (REST[:2, right] * d[right] ** 2).sum(axis=1) / (d[right] ** 2).sum()
    at, up, off = PLACES[number]
    want = POINTS[:2, list(at)].mean(axis=1) + np.array([0.0, up])
    assert np.linalg.norm(centre - want) < off, (centre, want)
    assert d.max() > 0.25
    for name, numbers in ALONE.items():
        if number in numbers:
            regions = head.build().regions
            v = np.concatenate([regions[k] for k in regions if k.split()[-1] == name])
            assert d[v].max() < 0.12 * d.max() + 0.02, name


def test_actions_are_alike_on_both_sides_and_grow_in_proportion() -> None:
    for number in actions.ACTION_UNITS:
        d = (shape({number: 1.0}) - REST)[:, : head.SHEET].reshape(3, head.ROWS, head.COLUMNS)
        np.testing.assert_allclose(
            d[:, :, ::-1] * np.array([-1, 1, 1])[:, None, None], d, atol=1e-5
        )
        half = (shape({number: 0.5}) - REST)[:, : head.SHEET].reshape(d.shape)
        size = np.linalg.norm(d)
        assert 0.4 * size < np.linalg.norm(half) < 0.62 * size


def test_brows() -> None:
    inner, outer = [21, 22], [17, 18, 25, 26]
    one, two, four = moved(AU1=1), moved(AU2=1), moved(AU4=1)
    assert (one[inner, 1] > 0.07).all()
    assert (one[inner, 1] > 3 * np.abs(one[[17, 26], 1])).all()
    assert (two[outer, 1] > 0.05).all()
    assert (two[[18, 25], 1] > 2 * two[inner, 1]).all()
    assert (four[[20, 21, 22, 23], 1] < -0.03).all()
    assert four[21, 0] > 0.015  # together
    assert four[22, 0] < -0.015
    both = moved(AU1=1, AU4=1)  # sadness: the inner ends go up, and together
    assert (both[inner, 1] > both[[19, 24], 1]).all()
    assert both[22, 0] - both[21, 0] < -0.03


def test_lids() -> None:
    assert opening(AU43=1) < 0.05
    assert 0.35 < opening(AU43=0.5) < 0.65
    assert opening(AU5=1) > 1.25
    assert opening(AU7=1) < 0.75
    assert (moved(AU7=1)[[40, 41, 46, 47], 1] > 0.01).all()  # the lower lids rise
    assert opening(AU6=1) < 0.9
    assert opening(AU43=1, AU5=1, AU7=1) > -0.01


def test_smile_and_frown() -> None:
    smile, frown = moved(AU12=1), moved(AU15=1)
    assert (smile[[48, 54], 1] > 0.05).all()
    assert smile[54, 0] > 0.05
    assert smile[48, 0] < -0.05
    assert (frown[[48, 54], 1] < -0.05).all()
    assert np.abs(smile[[17, 21, 22, 26, 27, 28, 36, 45, 8]]).max() < 0.02
    np.testing.assert_allclose(moved(AU12=0.5)[[48, 54]], smile[[48, 54]] / 2, atol=0.01)
    cheeks = head.build().regions["right cheek"]
    lifted = (shape({6: 1.0}) - REST)[1, cheeks]
    assert lifted.max() > 0.4
    assert lifted.min() > -0.05


def test_jaw() -> None:
    for name, least in (("AU26", 0.1), ("AU27", 0.17)):
        jaw = moved(**{name: 1.0})
        assert jaw[8, 1] < -least
        assert jaw[57, 1] < -0.6 * least
        assert np.abs(jaw[[0, 16, 27, 30, 33, 36, 45]]).max() < 0.02
        assert jaw[62, 1] - jaw[66, 1] > 0.5 * least  # the mouth is open
    alone, parted = moved(AU26=1), moved(AU26=1, AU25=1)
    gap = lambda m: m[62, 1] - m[66, 1]  # noqa: E731
    assert gap(parted) > 1.4 * gap(alone) > 0.07


def test_mouth() -> None:
    width = lambda m: m[54, 0] - m[48, 0]  # noqa: E731
    gap = lambda m: m[62, 1] - m[66, 1]  # noqa: E731
    assert gap(moved(AU25=1)) > 0.05
    assert moved(AU10=1)[[50, 52], 1].min() > 0.03
    assert moved(AU16=1)[57, 1] < -0.03
    assert moved(AU17=1)[57, 1] > 0.02
    assert width(moved(AU18=1)) < -0.15
    assert moved(AU18=1)[[51, 62, 66, 57], 2].min() > 0.05  # forward
    assert width(moved(AU20=1)) > 0.12
    assert gap(moved(AU22=1)) > 0.03
    for name in ("AU23", "AU24", "AU28"):  # thinner lips
        thin = moved(**{name: 1.0})
        assert thin[51, 1] - thin[57, 1] < -0.05
        assert abs(gap(thin)) < 0.02
    assert moved(AU28=1)[[62, 66], 2].max() < -0.03  # into the mouth
    assert moved(AU9=1)[[31, 35], 1].min() > 0.02
    assert moved(AU9=1)[[21, 22], 1].max() < -0.01
    assert moved(AU14=1)[54, 0] > 0.02
    assert moved(AU14=1)[54, 2] < -0.03  # a dimple


def test_closed_mouths_stay_closed() -> None:
    """Combinations that press the lips leave no gap and no crossing."""
    for units in ((17,), (24,), (23, 24), (15, 17), (28,), (17, 24), (12, 24), (14, 24), (17, 18)):
        m = moved(**{f"AU{u}": 1.0 for u in units})
        assert 0.0 <= m[62, 1] - m[66, 1] + 1e-9 < 0.05, units


def test_every_action_unit_shows_in_a_small_picture() -> None:
    rest = synth.render(synth.face(), 64).image.astype(int)
    for number in synth.ACTION_UNITS:
        full, half = (
            np.abs(synth.render(synth.face(au={number: v}), 64).image.astype(int) - rest).max(2)
            for v in (1.0, 0.5)
        )
        assert (full > 12).sum() > 20, number
        assert (half > 8).sum() > 8, number


def test_lid_closure_is_bounded() -> None:
    random = np.random.default_rng(0)
    for _ in range(500):
        au = random.uniform(size=N) * (random.uniform(size=N) < 0.5)
        upper, lower = actions.lid_closure(au, float(random.uniform(-0.7, 0.7)))
        assert -0.8 <= upper <= 1.0
        assert -0.35 <= lower <= 1.0
        assert upper + lower <= 0.99 + 1e-9


def test_prototypes_are_made_of_known_action_units() -> None:
    assert tuple(synth.PROTOTYPES) == synth.EXPRESSIONS
    for units in synth.PROTOTYPES.values():
        assert set(units) <= set(synth.ACTION_UNITS)
        assert all(0.0 < level <= 1.0 for level in units.values())
    core = {
        "happy": {6, 12}, "sad": {1, 4, 15}, "surprise": {1, 2, 5, 26}, "fear": {1, 2, 4, 5, 20},
        "disgust": {9, 10}, "anger": {4, 5, 7, 23}, "contempt": {12, 14},
    }  # fmt: skip
    for name, least in core.items():
        assert least <= set(synth.PROTOTYPES[name])
    assert set(actions.ONE_SIDED) == {"contempt"}
    assert set(actions.ONE_SIDED["contempt"]) == set(synth.PROTOTYPES["contempt"])


def test_prototypes_differ_from_each_other_by_shape_alone() -> None:
    at = {}
    for e in synth.EXPRESSIONS:
        one = parameters(actions.ONE_SIDED.get(e, {})).au
        at[e] = mesh.landmarks(mesh.shape(parameters(synth.PROTOTYPES[e], sides=one))[0])
    for i, a in enumerate(synth.EXPRESSIONS):
        for b in synth.EXPRESSIONS[:i]:
            apart = np.linalg.norm(at[a] - at[b], axis=0)
            assert apart.max() > 0.5, (a, b)
            assert np.sqrt((apart**2).mean()) > 0.18, (a, b)
    assert neutral_identity().ndim == 1
