"""A checkpoint file as a state dict: names to arrays, whatever the file's layout."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facebench import files, tensors
from facebench.convert import torchfile
from facebench.convert.pickles import Tensor
from facebench.errors import FacebenchError, UsageError, nearest

#: Where the weights lie in checkpoints that hold more, in the order in which they are taken.
USUAL = ("state_dict", "model_state_dict", "model")
DEEPEST = 4  # levels of dicts that are searched for weights


def read(
    path: Path, key: str | None = None, inert: Collection[str] = ()
) -> tuple[dict[str, np.ndarray], str]:
    """Reads the state dict of a checkpoint.

    Args:
        path: a ``.safetensors`` file, or one that PyTorch has saved.
        key: where the state dict lies in the file, such as ``state_dict`` or ``nets/backbone``; by
            default the only place where there are tensors, or a usual one.
        inert: see `torchfile.read`.

    Returns:
        (name to array, the key; "" where the file is the state dict).

    Raises:
        UsageError: no such key, or several and none of them usual.
        FacebenchError: the file cannot be read, or is of another kind.
    """
    with files.regular(path) as file:
        head = file.read(512)
    if tensors.looks_like(head):
        if key:
            raise UsageError(f"--key={key}: a safetensors file holds one state dict; leave it out")
        return tensors.read(path)[0], ""
    if torchfile.looks_like(head):
        found = ""

        def choose(value: Any) -> Mapping[str, Tensor]:
            nonlocal found
            found, state = _find(path, value, key)
            return state

        return torchfile.read(path, choose, inert), found
    if head[257:262] == b"ustar":
        said = "a tar archive, as PyTorch wrote them before version 0.2"
    else:
        said = "neither a safetensors file nor one that PyTorch has saved"
    raise FacebenchError(
        f"{path}: {said}; save the weights with PyTorch: torch.save(model.state_dict(), ...)"
    )


def _find(path: Path, value: Any, key: str | None) -> tuple[str, dict[str, Tensor]]:
    """The state dict in what a checkpoint holds, and where it is."""
    places = _places(value)
    if key is not None:
        if key not in places:
            raise UsageError(f"{path}: --key={key}: no tensors there: {nearest(key, places)}")
        return key, places[key]
    if not places:
        raise FacebenchError(
            f"{path}: holds no state dict (a dict of names to tensors), but a "
            f"{type(value).__name__}; save model.state_dict()"
        )
    if len(places) == 1:
        return next(iter(places.items()))
    for usual in ("", *USUAL):
        if usual in places:
            return usual, places[usual]
    listed = ", ".join(f"{name} ({len(state)} tensors)" for name, state in places.items())
    raise UsageError(f"{path}: holds several sets of weights: {listed}; choose one with --key=")


def _places(value: Any) -> dict[str, dict[str, Tensor]]:
    """Every dict that has tensors, by the names that lead to it."""
    places: dict[str, dict[str, Tensor]] = {}
    seen: set[int] = set()  # a dict may stand in a pickle many times over

    def walk(node: Any, path: str, depth: int) -> None:
        if not isinstance(node, dict) or id(node) in seen:
            return
        seen.add(id(node))
        own = {name: item for name, item in node.items() if isinstance(item, Tensor)}
        if own and all(isinstance(name, str) for name in own):
            places[path] = own
        if depth < DEEPEST:
            for name, item in node.items():
                if isinstance(name, str) and name:
                    walk(item, f"{path}/{name}" if path else name, depth + 1)

    walk(value, "", 0)
    return places
