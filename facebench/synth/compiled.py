"""The compiler of the inner loops, and where its results are kept.

Numba keeps a compiled function as long as its own file is unchanged, although it may have built
in functions and constants of other files. Here the folder of the kept results is named after all
files that take part, so that no picture is ever drawn by a mixture of old and new.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import config as _config

config: Any = _config  # its names are set as it is imported

#: The files whose functions and constants are compiled together.
FILES = (
    "compiled.py", "kernels.py", "raster.py", "transfer.py", "recipe.py", "paint.py", "shade.py",
    "skin.py", "eyes.py", "strands.py", "resolve.py", "backdrop.py", "film.py",
)  # fmt: skip


@lru_cache(maxsize=1)
def _folder() -> str:
    here = Path(__file__).parent
    hasher = hashlib.sha256()
    for name in FILES:
        hasher.update((here / name).read_bytes())
    name = f"kernels-{hasher.hexdigest()[:12]}"
    return os.path.join(config.CACHE_DIR or str(here / "__pycache__"), name)


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    before = config.CACHE_DIR
    config.CACHE_DIR = _folder()
    try:
        return njit(cache=True, error_model="numpy", **options)(function)
    finally:
        config.CACHE_DIR = before


def kernel(function: Callable[..., Any]) -> Any:
    """Compiles a function: strict float64, no reordering, no threads; kept on disk."""
    return _compile(function)


def small(function: Callable[..., Any]) -> Any:
    """The same for a function of a few lines: it is built into its callers."""
    return _compile(function, forceinline=True)
