"""Identity and age: what the modes change, how independent they are, what age does."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from facebench.synth import hair, head, modes, people
from facebench.synth.numeric import Draws

NAMES = modes.SHAPES
CROOKED = [k for k, name in enumerate(NAMES) if name.startswith("asymmetry")]


def vector(style: float = 0.02, **weights: float) -> np.ndarray:
    out = np.zeros(people.SIZE)
    out[len(NAMES) :] = 0.5
    out[len(NAMES) + people.LOOKS.index("hair style")] = style
    for name, w in weights.items():
        name = name.replace("_", " ")
        k = NAMES.index(name) if name in NAMES else len(NAMES) + people.LOOKS.index(name)
        out[k] = w
    return out


def points(v: np.ndarray, age: float = 25.0) -> np.ndarray:
    at, weights = head.build().landmarks
    return (people.become(v, age).rest[:, at] * weights).sum(axis=2)


def test_names() -> None:
    assert 30 <= len(NAMES) <= 40
    assert len(set(NAMES + people.LOOKS)) == people.SIZE
    assert {"fringe", "wrinkling", "hair wave"} <= set(people.LOOKS)
    assert len(hair.STYLES) == len(hair.STYLE_EDGES) + 1
    assert set(hair.THICK) == set(hair.REACH) == set(hair.STYLES)


def test_modes_are_mirror_symmetric_but_the_asymmetries() -> None:
    n = head.SHEET
    flipped = modes.shapes()[:, :, :n].reshape(-1, 3, head.ROWS, head.COLUMNS)[..., ::-1]
    flipped = flipped.reshape(-1, 3, n) * np.array([-1, 1, 1])[:, None]
    odd = np.abs(flipped - modes.shapes()[:, :, :n]).max(axis=(1, 2))
    even = [k for k in range(len(NAMES)) if k not in CROOKED]
    assert odd[even].max() < 1e-5
    assert len(CROOKED) >= 3
    assert (odd[CROOKED] > 0.05).all()
    size = np.sqrt((modes.shapes()[:, :, :n] ** 2).sum(axis=(1, 2)))
    assert size[CROOKED].max() < np.median(size[even])  # biased to symmetry


def test_modes_are_nearly_independent() -> None:
    flat = modes.shapes().reshape(len(NAMES), -1)
    flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    cosine = np.abs(flat @ flat.T) - np.eye(len(NAMES))
    assert np.median(cosine) < 0.05
    assert cosine.max() < 0.8
    assert np.linalg.svd(flat, compute_uv=False)[-1] > 0.1  # none is a mix of the others


def test_modes_are_smooth() -> None:
    """Neighbours on the sheet move alike: no mode tears the skin."""
    grid = modes.shapes()[:, :, : head.SHEET].reshape(len(NAMES), 3, head.ROWS, head.COLUMNS)
    rest = head.build().rest[:, : head.SHEET].reshape(3, head.ROWS, head.COLUMNS)
    for axis in (2, 3):
        step = np.linalg.norm(np.diff(grid, axis=axis), axis=1)
        apart = np.linalg.norm(np.diff(rest, axis=axis - 1), axis=0)
        assert (step <= 0.45 * apart + 1e-5).all()


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        ("width", lambda p: p[0, 14] - p[0, 2]),
        ("jaw width", lambda p: p[0, 12] - p[0, 4]),
        ("chin length", lambda p: p[1, 57] - p[1, 8]),
        ("chin forward", lambda p: p[2, 8]),
        ("brow height", lambda p: p[1, 19] - p[1, 37]),
        ("nose length", lambda p: p[1, 27] - p[1, 33]),
        ("nose width", lambda p: p[0, 35] - p[0, 31]),
        ("nose height", lambda p: p[2, 30] - p[2, 33]),
        ("eye size", lambda p: p[1, 38] - p[1, 40]),
        ("eye distance", lambda p: p[0, 42] - p[0, 39]),
        ("eye tilt", lambda p: p[1, 45] - p[1, 42]),
        ("mouth width", lambda p: p[0, 54] - p[0, 48]),
        ("mouth height", lambda p: p[1, 62]),
        ("upper lip", lambda p: p[1, 51] - p[1, 62]),
        ("lower lip", lambda p: p[1, 66] - p[1, 57]),
        ("lip forward", lambda p: p[2, 62] - p[2, 8]),
    ],
)
def test_modes_do_what_their_names_say(name: str, measure: object) -> None:
    low, mean, high = (measure(points(vector(**{name: w}))) for w in (-2.0, 0.0, 2.0))  # type: ignore[operator]
    assert high - mean > 0.08
    assert mean - low > 0.08


def test_people_differ() -> None:
    """Two drawn people differ by far more than the pixel of a 64 px picture (0.45 cm)."""
    drawn = [points(people.draw(Draws("test", k)), 30.0) for k in range(24)]
    apart = [np.linalg.norm(a - b, axis=0).mean() for i, a in enumerate(drawn) for b in drawn[:i]]
    assert np.mean(apart) > 0.45
    assert np.min(apart) > 0.15


def test_draw_has_unit_modes_and_looks_in_range() -> None:
    drawn = np.stack([people.draw(Draws("test", k)) for k in range(400)])
    shape, looks = drawn[:, : len(NAMES)], drawn[:, len(NAMES) :]
    assert np.abs(shape.mean(axis=0)).max() < 0.25
    assert np.abs(shape.std(axis=0) - 1.0).max() < 0.15
    off = np.corrcoef(shape.T) - np.eye(len(NAMES))
    assert np.abs(off).max() < 0.25
    assert looks.min() >= 0.0
    assert looks.max() <= 1.0
    np.testing.assert_array_equal(drawn[7], people.draw(Draws("test", 7)))
    styles = {people.become(v).style for v in drawn}
    assert styles == set(hair.STYLES)


@pytest.mark.parametrize("age", [16.0, 90.0])
def test_extreme_vectors_are_finite_and_whole(age: float) -> None:
    n, m = head.NAMED, head.MIDDLE
    random = np.random.default_rng(5)
    for _ in range(30):
        v = vector(style=float(random.uniform()))
        v[: len(NAMES)] = random.choice([-3.0, 3.0], len(NAMES))
        person = people.become(v, age)
        assert np.isfinite(person.rest).all()
        assert np.abs(person.rest).max() < 45
        for colour in (person.skin, person.lips, person.hair, person.iris, person.cloth):
            assert colour.shape == (3,)
            assert (colour >= 0).all()
            assert (colour <= 1.3).all()
        y = person.rest[1, : head.SHEET].reshape(head.ROWS, head.COLUMNS)
        eye = slice(m + head.EYE_IN + 1, m + head.EYE_OUT)
        assert (y[n["upper lid"], eye] > y[n["lower lid"], eye]).all()
        assert y[n["upper lip"], m] > y[n["upper mouth"], m] > y[n["lower lip"], m]


def test_the_middle_line_of_drawn_people_runs_down() -> None:
    n = head.NAMED
    for k in range(60):
        person = people.become(people.draw(Draws("test", k)), 16.0 + k)
        y = person.rest[1, : head.SHEET].reshape(head.ROWS, head.COLUMNS)
        assert np.diff(y[n["fold"] : n["jaw"], head.MIDDLE]).max() < 0.05


def test_age_is_gradual_and_monotone() -> None:
    ages = (16, 20, 25, 35, 45, 55, 65, 75, 85, 90)
    shown = [people.become(vector(), float(a)) for a in ages]
    at, weights = head.build().landmarks
    p = np.stack([(s.rest[:, at] * weights).sum(axis=2) for s in shown])
    lips = p[:, 1, 51] - p[:, 1, 57]
    nose = p[:, 1, 27] - p[:, 1, 33]
    brows = p[:, 1, [18, 25]].mean(axis=1)
    adult = slice(2, None)
    for rising in (-lips[adult], nose[adult], -brows[adult]):
        assert (np.diff(rising) >= -1e-9).all()
        assert rising[-1] - rising[0] > 0.15
    ear = head.build().regions["left ear"]
    length = np.array([np.ptp(s.rest[1, ear]) for s in shown])[adult]
    assert (np.diff(length) >= -1e-9).all()
    assert length[-1] - length[0] > 0.3
    jowl = np.array([s.rest[:, head.build().regions["jaw"]] for s in shown])
    sag = np.linalg.norm(jowl - jowl[2], axis=1).max(axis=1)[adult]
    assert (np.diff(sag) >= -1e-9).all()
    assert sag[-1] > 0.5
    step = np.array([np.abs(a.rest - b.rest).max() for a, b in pairwise(shown)])
    assert (step > 0.02).all()
    assert step.max() < 0.6
    grey = [s.looks["grey"] for s in shown]
    line = [s.looks["hairline"] for s in shown]
    assert (np.diff(grey) >= 0).all()
    assert (np.diff(line) >= 0).all()
    assert grey[0] == 0.0
    assert grey[-1] > 0.7
    assert shown[-1].hair.sum() > 2 * shown[0].hair.sum()


def test_some_age_earlier() -> None:
    early = points(vector(wrinkling=1.0), 60) - points(vector(wrinkling=1.0), 25)
    late = points(vector(wrinkling=0.0), 60) - points(vector(wrinkling=0.0), 25)
    assert np.abs(early).sum() > 1.2 * np.abs(late).sum()


def test_the_crown_stays_one_point() -> None:
    for style in np.linspace(0.0, 0.99, 12):
        rest = people.become(vector(style=float(style), width=2.0, hair_wave=1.0), 50).rest
        crown = rest[:, : head.COLUMNS]
        assert np.abs(crown - crown[:, :1]).max() < 1e-6, style


def test_hair_does_not_cover_the_eyes() -> None:
    """Straight before the eyes, brows and mouth lies no hair, whatever the style."""
    at, weights = head.build().landmarks
    for style in np.linspace(0.0, 0.99, 12):
        for wave in (0.0, 1.0):
            v = vector(style=float(style), fringe=1.0, hair_wave=wave, hair_parting=wave)
            person = people.become(v, 30)
            few = (person.rest[:, at] * weights).sum(axis=2)[:, 36:68]
            drawn = head.drawn(person.style)
            triangles = head.build().triangles[:, drawn][:, head.build().kind[drawn] >= 2]
            a, b, c = (person.rest[:, t] for t in triangles)
            for x, y, z in few.T:
                area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
                with np.errstate(divide="ignore", invalid="ignore"):
                    u = ((b[0] - x) * (c[1] - y) - (c[0] - x) * (b[1] - y)) / area
                    w = ((c[0] - x) * (a[1] - y) - (a[0] - x) * (c[1] - y)) / area
                    inside = (u >= 0) & (w >= 0) & (u + w <= 1)
                depth = u * a[2] + w * b[2] + (1 - u - w) * c[2]
                assert not (inside & (depth > z)).any(), person.style


def test_long_hair_falls_behind_the_shoulders() -> None:
    person = people.become(vector(style=0.6), 30)
    assert person.style == "long"
    part = next(p for p in head.build().parts if p.name == "curtain")
    hang = person.rest[:, part.span]
    low = hang[:, hang[1] < -15.0]
    assert low.shape[1] > 30
    assert low[2].max() < -8.0
    body = person.rest[:, head.build().regions["shoulders"]]
    front = body[:, (np.abs(body[0]) < 6) & (body[2] > 0)]
    assert low[2].max() < front[2].min()


def test_normals_stand_outwards() -> None:
    """On a bald head they agree with the normals of the triangles around each vertex."""
    rest = head.build().rest
    n = np.stack(people.normals(rest))
    np.testing.assert_allclose(np.linalg.norm(n, axis=0), 1.0, atol=1e-9)
    t = head.build().triangles[:, head.build().kind <= 1]
    a, b, c = (rest[:, k].T for k in t)
    total = np.zeros((3, rest.shape[1]))
    for k in range(3):
        np.add.at(total.T, t[k], np.cross(b - a, c - a))
    seen = np.linalg.norm(total, axis=0) > 1e-3
    away = ~head.joined().reshape(-1)
    seen[: head.SHEET] &= away
    cosine = (n * total).sum(axis=0)[seen] / np.linalg.norm(total[:, seen], axis=0)
    assert np.quantile(cosine, 0.01) > 0.9
