"""Workspaces of one dataset, and small faces to write releases of."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest

from facebench import workspace


@pytest.fixture
def space(tmp_path, repository):
    """Makes a workspace that holds the builder of a dataset and nothing prepared."""

    def make(name):
        shutil.copytree(
            repository / "datasets" / name, tmp_path / "space/datasets" / name,
            ignore=shutil.ignore_patterns("__pycache__"),
        )  # fmt: skip
        (tmp_path / "space/WORKSPACE.md").write_text("a workspace of a test\n")
        return workspace.find(tmp_path / "space", data=tmp_path / "data")

    return make


@pytest.fixture(scope="session")
def picture():
    """Makes smooth random pictures, uint8 [H, W, 3] RGB; equal seeds give equal ones."""

    def make(seed, height=112, width=112):
        small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)

    return make


@pytest.fixture(scope="session")
def encode():
    """Encodes a picture."""

    def make(image, suffix=".png"):
        return cv2.imencode(suffix, image[..., ::-1])[1].tobytes()

    return make
