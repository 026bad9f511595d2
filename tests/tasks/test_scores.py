"""Pair scores and similarities against loops."""

from __future__ import annotations

import numpy as np
import pytest

from facebench.errors import FacebenchError
from facebench.tasks import scores


@pytest.fixture
def embedding():
    return np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)


def cosine(a, b):
    a, b = a.astype(float), b.astype(float)
    return sum(a * b) / sum(a * a) ** 0.5 / sum(b * b) ** 0.5


@pytest.mark.parametrize("chunk", [1, 7, 1 << 22])
def test_scores_by_a_loop_whatever_the_chunk(embedding, chunk, monkeypatch):
    monkeypatch.setattr(scores, "_CHUNK", chunk)
    pairs = np.stack(np.triu_indices(9, 1), axis=1)
    got = scores.pair_scores(embedding, pairs)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, [cosine(embedding[i], embedding[j]) for i, j in pairs])
    probe, gallery = np.array([8, 0, 3]), np.array([1, 2, 2, 7])
    got = scores.similarity(embedding, probe, gallery)
    expected = [[cosine(embedding[p], embedding[g]) for g in gallery] for p in probe]
    np.testing.assert_allclose(got, expected)


def test_scale_does_not_matter_and_cosines_end_at_one(embedding):
    x = embedding.astype(float)
    x = np.concatenate([x, 1e200 * x[:2], -1e-200 * x[:1]])
    got = scores.pair_scores(x, np.array([[0, 9], [1, 10], [0, 11], [0, 0]]))
    np.testing.assert_allclose(got, [1, 1, -1, 1], rtol=1e-12)
    assert np.abs(got).max() <= 1.0


def test_a_zero_embedding_is_like_nobody(embedding):
    embedding[4] = 0
    assert not scores.similarity(embedding, np.array([4]), np.arange(9)).any()


def test_empty_lists(embedding):
    assert scores.pair_scores(embedding, np.empty((0, 2), int)).shape == (0,)
    assert scores.similarity(embedding, np.array([], int), np.array([1])).shape == (0, 1)


def test_bad_input_is_named(embedding):
    with pytest.raises(FacebenchError, match="row 9"):
        scores.pair_scores(embedding, np.array([[0, 9]]))
    with pytest.raises(FacebenchError, match=r"gallery names row -1"):
        scores.similarity(embedding, np.array([0]), np.array([-1]))
    with pytest.raises(FacebenchError, match=r"expected \[m, 2\]"):
        scores.pair_scores(embedding, np.array([0, 1]))
    with pytest.raises(FacebenchError, match="integers"):
        scores.pair_scores(embedding, np.array([[0.0, 1.0]]))
    with pytest.raises(FacebenchError, match=r"expected \[n, d\]"):
        scores.unit(embedding[0])
    embedding[3, 1] = np.nan
    with pytest.raises(FacebenchError, match=r"1 of 9 rows .* row 3"):
        scores.pair_scores(embedding, np.array([[0, 1]]))


@pytest.mark.parametrize("chunk", [1, 1 << 22])
def test_the_most_alike_image_of_each_person_by_a_loop(embedding, chunk, monkeypatch):
    monkeypatch.setattr(scores, "_CHUNK", chunk)
    person = np.array([2, 0, 1, 2, 0, 2])
    got = scores.best_of_each(embedding[:3], embedding[3:], person)
    expected = [
        [max(cosine(p, g) for g, k in zip(embedding[3:], person) if k == who) for who in range(3)]
        for p in embedding[:3]
    ]
    np.testing.assert_allclose(got, expected)
    with pytest.raises(FacebenchError, match="person names"):
        scores.best_of_each(embedding[:3], embedding[3:], np.array([2, 0, 3, 2, 0, 2]))
    with pytest.raises(FacebenchError, match="do not fit"):
        scores.best_of_each(embedding[:3], embedding[3:], person[1:])


@pytest.mark.parametrize(
    ("how", "expected"),
    [("n1d1", (1.25, 2.2)), ("n1d0", (2, 3)), ("n0d1", (0.75, 1.2)), ("n0d0", (1, 2))],
)
def test_a_template_by_hand(how, expected):
    features = np.array([[1, 0], [3, 0], [0, 2], [0, 1]], np.float32)
    media, weight = np.array([7, 7, 8, 9]), np.array([1, 0.5, 1, 0.2])
    got = scores.pooled(features, np.zeros(4, int), media, weight, how)
    np.testing.assert_allclose(got, [expected])


@pytest.mark.parametrize("chunk", [1, 12, 1 << 22])
def test_templates_by_a_loop_whatever_the_chunk(chunk, monkeypatch):
    monkeypatch.setattr(scores, "_CHUNK", chunk)
    rng = np.random.default_rng(1)
    features = rng.normal(size=(40, 4))
    template, media, weight = rng.permutation(40) % 5, rng.integers(0, 3, 40), rng.random(40)
    for how in ("n1d1", "n0d0"):
        got = scores.pooled(features, template, media, weight, how)
        x = features * weight[:, None] if how == "n1d1" else scores.unit(features)
        for t in range(5):
            own = [x[(template == t) & (media == m)] for m in range(3)]
            expected = sum(part.mean(axis=0) for part in own if len(part))
            np.testing.assert_allclose(got[t], expected)
    with pytest.raises(FacebenchError, match=r"media has shape \[39\]"):
        scores.pooled(features, template, media[1:], weight, "n1d1")
