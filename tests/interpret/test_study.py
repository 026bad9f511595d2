"""Similarity, dendrogram and permutation test against brute force; pictures of the results."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from facebench.errors import FacebenchError
from facebench.interpret import aligned, plots, study


def networks(noise: float, families: str) -> list[study.Network]:
    """Each family has its own two maps, to which every network adds its noise."""
    rng = np.random.default_rng(0)
    base = {f: rng.random((2, 8, 8)) for f in sorted(set(families))}
    return [
        study.Network(f"n{i}", f, 0.5, [*(base[f] + noise * rng.random((2, 8, 8))), None])
        for i, f in enumerate(families)
    ]


def test_similarity_is_the_mean_correlation():
    found = networks(0.5, "aab")
    matrix = study.similarity(found)
    for i, j in itertools.product(range(3), repeat=2):
        expected = np.mean(
            [np.corrcoef(found[i].maps[c].ravel(), found[j].maps[c].ravel())[0, 1] for c in (0, 1)]
        )
        assert matrix[i, j] == pytest.approx(expected)
    blank = study.Network("blank", "a", 0.5, [None, None, None])
    with pytest.raises(FacebenchError, match="n0 and blank have no class"):
        study.similarity([found[0], blank])


def test_the_tree_joins_the_nearest_first():
    matrix = np.array([[1, 0.9, 0.1, 0.2], [0.9, 1, 0.2, 0.1], [0.1, 0.2, 1, 0.7],
                       [0.2, 0.1, 0.7, 1]])  # fmt: skip
    links, order = study.dendrogram(matrix)
    assert [sorted(link[:2]) for link in links] == [[0, 1], [2, 3], [4, 5]]
    np.testing.assert_allclose([link[2] for link in links], [0.1, 0.3, 0.85])
    assert {*order[:2]} in ({0, 1}, {2, 3})


def test_permutations_are_all_tried():
    found = networks(0.3, "aaabb")
    matrix, families = study.similarity(found), list("aaabb")
    result, null = study.permutation(matrix, families)
    assert result["exact"]
    assert result["arrangements"] == len(null) == 10  # 5! / (3! 2!)

    def gap(names):
        same, other = [], []
        for i, j in itertools.combinations(range(5), 2):
            (same if names[i] == names[j] else other).append(matrix[i, j])
        return np.mean(same) - np.mean(other)

    every = [gap(names) for names in set(itertools.permutations(families))]
    np.testing.assert_allclose(sorted(null), sorted(every))
    assert result["observed"] == pytest.approx(gap(families)) == pytest.approx(max(every))
    assert result["p"] == result["least_p"] == 0.1
    shuffled = study.permutation(matrix, list("abaab"))[0]
    assert shuffled["p"] > 0.1
    # two families of one size: naming them the other way round is the same
    assert study.permutation(matrix[:4, :4], list("aabb"))[0]["least_p"] == pytest.approx(2 / 6)


def test_seeds_of_one_design_count_once():
    """Two seeds each of four designs: 70 ways to deal out networks, 6 to deal out designs."""
    matrix = study.similarity(networks(0.5, "abcdabcd"))
    blocks = list("abcdabcd")
    found = study.collapsed(matrix, blocks)
    assert found[0, 2] == pytest.approx(np.mean([matrix[i, j] for i in (0, 4) for j in (2, 6)]))
    np.testing.assert_array_equal(found, found.T)
    result, _ = study.permutation(found, list("ccvv"))
    assert (result["arrangements"], result["least_p"]) == (6, pytest.approx(1 / 3))


def test_of_many_arrangements_some_are_drawn():
    found = networks(0.3, "aaaaaaaaabbbbbbbbb")
    matrix, families = study.similarity(found), [one.family for one in found]
    result, null = study.permutation(matrix, families)
    assert not result["exact"]
    assert len(null) == study.DRAWS + 1
    assert null[0] == result["observed"]
    assert result["least_p"] == 1 / (study.DRAWS + 1) <= result["p"] < 1e-3
    assert study.permutation(matrix, families) == (result, null)  # the draws are seeded


@pytest.mark.parametrize("families", ["aaa", "abc"])
def test_nothing_to_permute(families):
    assert study.permutation(np.eye(3), list(families)) is None


def test_experts_and_a_map_that_is_the_mask():
    mask = np.zeros((8, 8), bool)
    mask[2:4, 2:6] = True
    found = study.against([mask.astype(float), np.ones((8, 8)), None], [mask, mask, mask])
    assert found["iou"]["per_class"] == [1.0, None, None]
    assert found["correlation"]["mean"] == pytest.approx(1)
    assert found["n"] == 1


# -- faces on one another --------------------------------------------------------------------------


def test_faces_are_moved_onto_their_mean(face):
    angle, scale = 0.2, 1.1
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = face @ turn.T + [2, -1]
    (matrix,) = aligned.onto(moved[None], face)
    np.testing.assert_allclose(moved @ matrix[:, :2].T + matrix[:, 2], face, atol=1e-9)


def test_a_mean_follows_the_faces(face):
    """A dot on the nose of two shifted faces stays a dot on the nose of their mean."""
    points = face + np.array([[[4, 0]], [[-4, 0]]])
    images = np.zeros((2, 32, 32))
    for image, p in zip(images, points):
        x, y = np.rint(p[30]).astype(int)
        image[y, x] = 1
    on = aligned.Aligned(points, 2, 32)
    mean = on.mean(images, np.array([True, True]))
    x, y = np.rint(face[30]).astype(int)
    assert np.unravel_index(mean.argmax(), mean.shape) == (y, x)
    assert on.mean(images, np.array([False, False])) is None
    means = aligned.class_means(on, images * [[[1]], [[0]]], np.array([0, 1]), 2)
    assert means[0] is not None
    assert means[1] is None  # a constant map has no say


def test_pictures_and_plots_are_whole(face):
    heat = np.random.default_rng(0).random((32, 32))
    shown = aligned.cell(heat, None, face, heat > 0.9, 32)
    photo = aligned.cell(heat, 255 * heat, face, None, 32)
    assert shown.shape == photo.shape == (aligned.SIDE, aligned.SIDE, 3)
    border = (shown != aligned.cell(heat, None, face, None, 32)).any(-1)
    assert shown[border].mean() > 180  # of the mask, in white
    sheet = aligned.sheet("title", ["happy", "sad"], [("one", [shown, photo])])
    assert sheet.dtype == np.uint8
    matrix = study.similarity(networks(0.5, "aab"))
    links, order = study.dendrogram(matrix)
    for text in (
        plots.profile("p & q", ["a", "b"], {"happy": [0.1, None]}, [0.1, 0.2], {"Gaussian": 0.3}),
        plots.curves("c", {"cam": {"insertion": [0, 1.0], "deletion": [1.0, 0]}}),
        plots.similarity("<s>", ["x", "y", "z"], list("aab"), matrix, links, order),
        plots.permutation("p", [0.1, 0.2, 0.2], 0.2, 0.67, "drawn"),
    ):
        root = ET.fromstring(text)
        assert root.tag.endswith("svg")
        assert "nan" not in text
