"""Fixtures of the whole suite; devices are virtual, compiled programs are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# Before JAX is first imported: eight CPU devices, so that one process can compare meshes.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(REPOSITORY / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")


def _folder(variable: str, default: Path, what: str) -> Path:
    folder = Path(os.environ.get(variable) or default)
    if not folder.is_dir():
        pytest.skip(f"{what} are not here; name their folder in ${variable}")
    return folder


@pytest.fixture(scope="session")
def oracles() -> Path:
    """The folder of reference implementations' inputs and outputs."""
    return _folder("FACEBENCH_ORACLES", REPOSITORY.parent / "shared/oracles", "oracle files")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of official releases of small real face sets."""
    return _folder("FACEBENCH_REAL_DATA", REPOSITORY.parent / "shared/data", "real face sets")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The reference workspace."""
    return REPOSITORY
