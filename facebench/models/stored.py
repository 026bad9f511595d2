"""Weights that a run can start from: one safetensors file with all variables of a backbone.

The arrays are float32 and named by their Flax paths (``params/conv1/kernel``). Beside them stands
one text, ``facebench``, a JSON object in canonical form:

==============  ================================================================================
``format``      1
``model``       the backbone's name, as ``config.model.build`` has it
``class``       the name of its class
``fields``      all its fields that say what the net is (not how it is computed or regularised)
``size``        side of the images in pixels
``parameters``  how many there are
``weights``     digest of all variables, by name, type, shape and value (`facebench.digest`)
``source``      digest of the file that they were read from, or the id of the trial they are of
``key``         where in it they were
``licence``     what the one who converted them said of their terms
``trial``       of a trial's backbone alone: ``protocol``, ``entry``, ``value`` of the regime,
                ``seed``, and ``weights``, the digest of all that the trial predicted with
==============  ================================================================================

Equal weights give equal files. What is read is held against the digest, and against the backbone
that is to get it: sizes that change no shape (heads, strides) are compared by the fields.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facebench import digest, models, tensors
from facebench.errors import FacebenchError

FORMAT = 1
TEXT = "facebench"  # the name of the JSON text in the file

#: Fields of a backbone that do not say what the net is, and may differ from the stored ones.
FREE = frozenset(("axis_name", "drop_path", "dropout", "dtype", "mask_ratio", "name", "parent"))

_KINDS: dict[str, Any] = {
    "format": int,
    "model": str,
    "class": str,
    "fields": dict,
    "size": int,
    "parameters": int,
    "weights": str,
    "source": str,
    "key": str,
    "licence": str,
}
_TRIAL: dict[str, tuple[type, ...]] = {
    "protocol": (str,),
    "entry": (str,),
    "value": (float, int),
    "seed": (int,),
    "weights": (str,),
}


@dataclasses.dataclass(frozen=True)
class Stored:
    """Weights, and what the file says of them.

    Attributes:
        header: the JSON object that is described above.
        variables: ``{"params": ..., "batch_stats": ...}``, float32 NumPy arrays.
    """

    header: dict[str, Any]
    variables: dict[str, Any]


def flat(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves (arrays or their shapes) of nested dicts by path, ``params/conv1/kernel``."""

    def walk(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
        for name, child in node.items():
            if isinstance(child, Mapping):
                yield from walk(child, f"{path}{name}/")
            else:
                yield f"{path}{name}", child

    return dict(walk(variables, ""))


def fields_of(module: Any) -> dict[str, Any]:
    """The fields that say what a backbone is, as JSON has them.

    Raises:
        FacebenchError: one of them is neither a number, text, truth value nor a list of these.
    """
    named = {f.name for f in dataclasses.fields(module) if isinstance(f.default, str)}
    found = {name: _plain(module, name, getattr(module, name)) for name in _telling(module)}
    # A variant that is called "50" may have been given as the number.
    return {name: str(value) if name in named else value for name, value in found.items()}


def _defaults(module: Any) -> dict[str, Any]:
    """What a file that was written before a field was there means by its absence."""
    there = {field.name: field.default for field in dataclasses.fields(module)}
    return {
        name: _plain(module, name, there[name])
        for name in _telling(module)
        if there[name] is not dataclasses.MISSING
    }


def _telling(module: Any) -> list[str]:
    return sorted(f.name for f in dataclasses.fields(module) if f.name not in FREE)


def _plain(module: Any, name: str, value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(module, name, item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise FacebenchError(
        f"{type(module).__name__}.{name} is a {type(value).__name__}; a file of weights can say "
        "numbers, text, true / false and lists only"
    )


def describe(
    module: Any, model: str, size: int, variables: Mapping[str, Any], **origin: Any
) -> dict[str, Any]:
    """The header for a backbone's variables.

    Args:
        module: the backbone.
        model: the name it was built by.
        size: side of the images in pixels.
        variables: nested dicts of arrays.
        origin: ``source``, ``key`` and ``licence``; ``trial`` where they are of one.
    """
    arrays = flat(variables)
    return {
        "format": FORMAT,
        "model": model,
        "class": type(module).__name__,
        "fields": fields_of(module),
        "size": size,
        "parameters": sum(a.size for name, a in arrays.items() if name.startswith("params/")),
        "weights": digest.of_arrays(arrays),
        **origin,
    }


def write(path: Path, header: Mapping[str, Any], variables: Mapping[str, Any]) -> None:
    """Writes weights, atomically; equal contents give equal bytes.

    Args:
        path: the file.
        header: of `describe`.
        variables: nested dicts of float32 arrays.
    """
    tensors.write(path, flat(variables), {TEXT: digest.canonical(dict(header)).decode()})


def read(path: Path) -> Stored:
    """Reads weights and holds them against the digest in the file.

    Raises:
        FacebenchError: no such file, damaged, of another kind, or the digest is another.
    """
    arrays, text = tensors.read(path)
    if TEXT not in text:
        raise FacebenchError(
            f"{path}: a safetensors file, but not one of `facebench convert`; convert it: "
            "facebench convert FILE --model=NAME --output=FOLDER"
        )
    try:
        header = json.loads(text[TEXT])
    except (ValueError, RecursionError) as error:
        raise FacebenchError(f"{path}: its header is no JSON: {error}; convert it again") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else header
        raise FacebenchError(
            f"{path}: format {str(found)[:40]}, expected {FORMAT}; convert it with this release"
        )
    for name, kind in _KINDS.items():
        _require(path, name, header.get(name), (kind,))
    if "trial" in header:
        _require(path, "trial", header["trial"], (dict,))
        for name, kinds in _TRIAL.items():
            _require(path, f"trial.{name}", header["trial"].get(name), kinds)
    variables: dict[str, Any] = {}
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise FacebenchError(f"{path}: {name} is {array.dtype}, not float32; convert it again")
        *branches, leaf = name.split("/")
        node = variables
        for branch in branches:
            node = node.setdefault(branch, {})
            if not isinstance(node, dict):
                raise FacebenchError(f"{path}: {name} lies inside an array; convert it again")
        if leaf in node:
            raise FacebenchError(f"{path}: {name} is both an array and a folder; convert it again")
        node[leaf] = array
    if (found := digest.of_arrays(arrays)) != header["weights"]:
        raise FacebenchError(
            f"{path}: its weights have the digest {found}, its header says {header['weights']}; "
            "the file was changed: convert it again"
        )
    return Stored(header, variables)


def _require(path: Path, name: str, value: Any, kinds: tuple[type, ...]) -> None:
    if type(value) not in kinds:
        raise FacebenchError(
            f"{path}: {name} of its header is {str(value)[:40]!r}, expected "
            f"{kinds[0].__name__}; convert it again"
        )


def load(path: Path, module: Any, size: int) -> Stored:
    """Reads weights for a backbone, and refuses those of another.

    Args:
        path: the file.
        module: the unbound backbone that gets them.
        size: side of its images in pixels.

    Raises:
        FacebenchError: see `read`; or class, fields, names or shapes differ, each named.
    """
    stored = read(path)
    mine, found = fields_of(module), {**_defaults(module), **stored.header["fields"]}
    faults = [
        f"{name} is {found.get(name, 'not there')}, the model's is {mine.get(name, 'not there')}"
        for name in sorted(mine.keys() | found.keys())
        if mine.get(name) != found.get(name)
    ]
    if stored.header["class"] != type(module).__name__:
        faults = [f"class is {stored.header['class']}, the model's is {type(module).__name__}"]
    if not faults:
        wanted = {name: a.shape for name, a in flat(models.shapes(module, size)[1]).items()}
        there = {name: a.shape for name, a in flat(stored.variables).items()}
        faults = [
            f"{name} is {there.get(name, 'not there')}, the model's is "
            f"{wanted.get(name, 'not there')}"
            for name in sorted(wanted.keys() | there.keys())
            if wanted.get(name) != there.get(name)
        ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise FacebenchError(
            f"{path}: weights of another model: {'; '.join(faults[:5])}{more} (made for "
            f"{stored.header['size']} px, asked for {size}); set config.model as in the file, or "
            "convert the checkpoint for this one"
        )
    return stored
