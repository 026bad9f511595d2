"""The identity probe on features whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from facebench.errors import FacebenchError
from facebench.probes import identity


def faces(people=6, each=10, seed=0):
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), each)
    return rng, person, [f"face/{i}" for i in range(len(person))]


def test_what_says_who_it_is_is_read_and_what_does_not_is_not():
    rng, person, keys = faces(people=8, each=40)
    noise = rng.normal(size=(320, 12))
    centres = rng.normal(size=(8, 12)) * 8
    found = identity.accuracy(noise + centres[person], person, keys)
    assert found == {"accuracy": 1.0, "chance": 1 / 8, "people": 8, "images": 160}
    assert identity.accuracy(noise, person, keys)["accuracy"] < 0.25
    assert identity.accuracy(np.ones((320, 3)), person, keys)["accuracy"] == 1 / 8


def test_halves_follow_from_keys_and_units_of_features_do_not_matter():
    rng, person, keys = faces()
    x = rng.normal(size=(60, 4)) + rng.normal(size=(6, 4))[person]
    found = identity.accuracy(x, person, keys)
    order = rng.permutation(60)
    assert identity.accuracy(x[order], person[order], [keys[i] for i in order]) == found
    assert identity.accuracy(x * [1, 1e3, 1e-3, 5] + 7, person, keys) == found
    assert any(
        identity.accuracy(x, person, [f"{salt}{key}" for key in keys]) != found for salt in "abc"
    )


def test_by_least_squares_with_a_penalty():
    """The other half is answered by the map that scipy's normal equations give."""
    rng, person, keys = faces(people=3, each=6)
    x = rng.normal(size=(18, 2)) + rng.normal(size=(3, 2))[person] * 2
    import hashlib

    held = np.zeros(18, bool)
    for one in range(3):
        rows = sorted(
            np.flatnonzero(person == one), key=lambda i: hashlib.sha256(keys[i].encode()).digest()
        )
        held[rows[3:]] = True
    z = (x - x[~held].mean(0)) / x[~held].std(0)
    stacked = np.concatenate([np.c_[z[~held], np.ones(9)], np.c_[3 * 0.3 * np.eye(2), np.zeros(2)]])
    wanted = np.concatenate([np.eye(3)[person[~held]], np.zeros((2, 3))])
    w = np.linalg.lstsq(stacked, wanted, rcond=None)[0]
    share = (np.argmax(np.c_[z[held], np.ones(9)] @ w, 1) == person[held]).mean()
    assert identity.accuracy(x, person, keys, penalty=0.09)["accuracy"] == share


def test_people_with_one_image_are_left_out_and_too_few_are_refused():
    rng, person, keys = faces(people=3, each=4)
    x = rng.normal(size=(12, 2))
    more = np.append(person, 99)
    found = identity.accuracy(np.vstack([x, x[:1]]), more, [*keys, "alone"])
    assert found == identity.accuracy(x, person, keys)
    with pytest.raises(FacebenchError, match=r"0 of 3 people have two images"):
        identity.accuracy(x[:3], np.arange(3), keys[:3])
    with pytest.raises(FacebenchError, match=r"do not fit"):
        identity.accuracy(x, person[:3], keys)
