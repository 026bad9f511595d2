"""The verb ``convert``: flags in, the file of weights and a few lines out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from facebench.errors import UsageError
from facebench.verb import Values, Verb, common, expect, value_of, workspace

CONVERT = (
    "convert CHECKPOINT --model=NAME [--model.FIELD=VALUE ..] --output=FOLDER [--size=PX] "
    "[--key=NAME] [--prove=EXAMPLE.npz]"
)
_FIELD = re.compile(r"--?(model\.\w+)(=.*)?")


def _flags(values: Values, argv: Sequence[str]) -> None:
    common(values)
    flags.DEFINE_string("model", None, "The backbone: `facebench list models`.", values)
    for name in {match.group(1) for word in argv if (match := _FIELD.fullmatch(word))}:
        flags.DEFINE_string(name, None, "A field of the backbone (JSON or text).", values)
    flags.DEFINE_string("output", None, "A folder, or a file *.safetensors.", values)
    flags.DEFINE_integer("size", 112, "Side of the images in pixels.", flag_values=values)
    flags.DEFINE_string("key", None, "Where the state dict lies, such as state_dict.", values)
    flags.DEFINE_list(
        "ignore", [], "Patterns of entries without use, head.*,..", flag_values=values
    )
    flags.DEFINE_list(
        "inert", [], "Names that the pickle may mention; nothing of them is run or kept.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string("licence", "", "The terms of the weights, kept with them.", values)
    flags.DEFINE_string("prove", None, "An .npz with input and output of the original.", values)
    flags.DEFINE_float(
        "tolerance", 1e-4, "Largest relative difference of the proof.", flag_values=values
    )


def _field(text: str) -> Any:
    """A flag's text as a value: JSON where it is JSON, lists as tuples."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return tuple(value) if isinstance(value, list) else value


def _call(values: Values, args: list[str]) -> int:
    (source,) = expect(args, 1, 1, CONVERT)
    for name in ("model", "output"):
        if value_of(values, name) is None:
            raise UsageError(f"convert needs --{name}; usage: facebench {CONVERT}")
    from facebench import convert

    example = value_of(values, "prove")
    made = convert.convert(
        Path(source),
        value_of(values, "model"),
        Path(value_of(values, "output")),
        fields={
            name.removeprefix("model."): _field(value_of(values, name))
            for name in values
            if name.startswith("model.")
        },
        size=value_of(values, "size"),
        key=value_of(values, "key"),
        ignore=value_of(values, "ignore"),
        inert=value_of(values, "inert"),
        licence=value_of(values, "licence"),
        example=Path(example) if example else None,
        tolerance=value_of(values, "tolerance"),
        root=workspace(values).root,
    )
    header = made.header
    print(f"read    {made.entries} entries{' of ' + header['key'] if header['key'] else ''}")
    print(f"model   {header['model']}, {header['parameters']:,} parameters, {header['size']} px")
    for found in made.differences:
        print(
            f"equal   {found.output} of {found.images} images: largest difference "
            f"{found.absolute:.3g}, {found.relative:.3g} relative"
        )
    if not made.differences:
        print("unproven: give --prove=EXAMPLE.npz to compare it with the original model")
    print(f"weights {header['weights']}")
    print(f"wrote   {made.path}")
    return 0


VERBS = {
    "convert": Verb("PyTorch weights to a file that a run starts from", CONVERT, _flags, _call)
}
