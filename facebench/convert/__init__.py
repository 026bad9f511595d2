"""Published PyTorch weights as files that a run can start from, with a proof that they are equal.

``checkpoint`` reads a file into names and arrays and runs nothing that is in it (``torchfile``,
``pickles``); `facebench.models.weights` puts the arrays into a backbone; ``proof`` compares the
backbone with what the original model returned; `facebench.models.stored` is the file that is made.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from facebench import digest, models, tensors
from facebench.convert import checkpoint, proof
from facebench.errors import UsageError
from facebench.models import stored

#: Fields of backbones that a run sets, and that weights do not depend on.
RESERVED = ("axis_name", "dtype")


@dataclasses.dataclass(frozen=True)
class Converted:
    """What a conversion made.

    Attributes:
        path: the file of weights.
        header: what it says; see `facebench.models.stored`.
        entries: how many arrays the state dict had.
        differences: of the proof, by output; empty where none was asked for.
    """

    path: Path
    header: dict[str, Any]
    entries: int
    differences: tuple[proof.Difference, ...]


def convert(
    source: Path,
    model: str,
    output: Path,
    *,
    fields: Mapping[str, Any] | None = None,
    size: int = 112,
    key: str | None = None,
    ignore: Collection[str] = (),
    inert: Collection[str] = (),
    licence: str = "",
    example: Path | None = None,
    tolerance: float = proof.TOLERANCE,
    root: Path | None = None,
) -> Converted:
    """Makes a file of weights from a PyTorch checkpoint.

    Args:
        source: the checkpoint.
        model: the backbone, as ``config.model.build`` has it.
        output: a file ``*.safetensors``, or a folder, in which the file is named by the model and
            the first digits of the digest of the weights.
        fields: fields of the backbone.
        size: side of the images in pixels.
        key: where the state dict lies in the checkpoint; see `checkpoint.read`.
        ignore: patterns of entries that the backbone has no use for, beside those that its file
            names in ``TORCH_IGNORE``.
        inert: names that the checkpoint's pickle may mention beside the usual ones.
        licence: the terms of the weights, to be kept with them.
        example: an ``.npz`` of inputs, and of what the original model returned; see `proof`.
        tolerance: the largest relative difference that counts as equal.
        root: the folder that paths of models start from.

    Raises:
        UsageError: an unknown model, field or key.
        FacebenchError: the checkpoint is not read, does not fit the backbone, or the outputs are
            not equal; then nothing is written.
    """
    from facebench.models import weights

    for name in fields or {}:
        if name in RESERVED:
            raise UsageError(f"--model.{name} is set by a run, and weights do not depend on it")
    module = models.build(model, fields, root)
    models.check_backbone(module, size)
    state, found = checkpoint.read(source, key, inert)
    home = sys.modules[type(module).__module__]
    ignored = (*getattr(home, "TORCH_IGNORE", ()), *ignore)
    variables = weights.import_torch(module, state, size, ignore=ignored)
    differences: tuple[proof.Difference, ...] = ()
    if example is not None:
        differences = proof.compare(module, variables, size, example)
        proof.require_equal(differences, tolerance, example)
    header = stored.describe(
        module,
        model,
        size,
        variables,
        source=digest.of_file(source),
        key=found,
        licence=licence,
    )
    if output.suffix != tensors.SUFFIX:
        short = model.rsplit(":", 1)[-1].lower()
        output = output / f"{short}-{digest.short(header['weights'])}{tensors.SUFFIX}"
    stored.write(output, header, variables)
    return Converted(output, header, len(state), differences)
