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
    "[--key=NAME] [--prove=EXAMPLE.npz] | --trial=RUN_FOLDER --output=FOLDER [--licence=TEXT]"
)
OF_TRIALS = ("trial", "output", "licence", "workspace", "data_dir")  # flags that --trial takes
_FIELD = re.compile(r"--?(model\.\w+)(=.*)?")


def _flags(values: Values, argv: Sequence[str]) -> None:
    common(values)
    flags.DEFINE_string("trial", None, "The folder of a finished trial, for its backbone.", values)
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


def _of_trial(values: Values, args: list[str]) -> int:
    expect(args, 0, 0, CONVERT)
    if other := [n for n in values if n not in OF_TRIALS and values[n].present]:
        raise UsageError(
            f"--{other[0]} is of a checkpoint; a trial says itself what it trained: leave it out"
        )
    if value_of(values, "output") is None:
        raise UsageError(f"convert needs --output; usage: facebench {CONVERT}")
    from facebench.convert import trained

    space = workspace(values)
    path, header = trained.convert(
        space,
        Path(value_of(values, "trial")),
        Path(value_of(values, "output")),
        value_of(values, "licence"),
    )
    of = header["trial"]
    print(f"read    {of['entry']} of {of['protocol']}, {of['value']:g}, seed {of['seed']}")
    print(f"model   {header['model']}, {header['parameters']:,} parameters, {header['size']} px")
    print(f"weights {header['weights']}")
    print(f"wrote   {path}")
    if path.resolve().is_relative_to(space.root):
        name = path.resolve().relative_to(space.root)
        print(f'a run begins with it by: config.model.weights = "{name}"')
    return 0


def _call(values: Values, args: list[str]) -> int:
    if value_of(values, "trial") is not None:
        return _of_trial(values, args)
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
    "convert": Verb(
        "PyTorch weights, or a trial's, to a file that a run starts from", CONVERT, _flags, _call
    )
}
