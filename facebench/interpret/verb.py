"""The verb ``interpret``: flags in, tables out, and a folder of files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from facebench.errors import UsageError
from facebench.verb import Values, Verb, common, expect, value_of, workspace

INTERPRET = "interpret --trial=RUN [--layers] | --trials=RUN,RUN,.. [--study] [--limit=N]"


def _flags(values: Values, argv: Sequence[str]) -> None:
    common(values)
    flags.DEFINE_string("trial", None, "A trial's folder, or runs/.../ENTRY/VALUE/SEED.", values)
    flags.DEFINE_list("trials", [], "Several of them, to compare.", flag_values=values)
    flags.DEFINE_bool("study", False, "Global maps, experts, dendrogram, permutations.", values)
    flags.DEFINE_list("families", [], "study: one per trial, such as its pretraining; default: the "
                      "backbones' names.", flag_values=values)  # fmt: skip
    flags.DEFINE_string("method", "layercam", "What --trials are compared by.", values)
    flags.DEFINE_bool("layers", False, "Only list the maps inside the network.", values)
    flags.DEFINE_string("layer", "", "The map classes are followed back to; default: the last "
                        "that counts.", values)  # fmt: skip
    flags.DEFINE_list("profile", [], "Patterns of the layers of the profile.", flag_values=values)
    flags.DEFINE_string("split", "test", "test, dev or train.", values)
    flags.DEFINE_integer("limit", 0, "Only the first N images; 0: all.", flag_values=values)
    flags.DEFINE_integer(
        "curves", 64, "Images of insertion and deletion; 0: none.", flag_values=values
    )
    flags.DEFINE_string(
        "codebook", "corrected", "Expression to AUs: corrected, paper_code, emfacs.", values
    )
    flags.DEFINE_string(
        "placement", "cells", "How maps lie on the crop: cells, field, corners.", values
    )
    flags.DEFINE_float("top", 0.2, "Share of the crop in the top-k mask.", flag_values=values)
    flags.DEFINE_string("out", None, "A folder; default: interpret/ in the trial's.", values)
    flags.DEFINE_bool("json", False, "Print the report as JSON.", values)


def _call(values: Values, args: list[str]) -> int:
    expect(args, 0, 0, INTERPRET)
    name, names = value_of(values, "trial"), value_of(values, "trials")
    if bool(name) == bool(names):
        raise UsageError(f"give --trial or --trials; usage: facebench {INTERPRET}")
    many, studied = bool(names), value_of(values, "study")
    for flag, given, fits, belongs in (
        ("study", studied, many, "--trials"),
        ("families", value_of(values, "families"), studied, "--study"),
        ("layers", value_of(values, "layers"), not many, "--trial"),
        ("out", value_of(values, "out"), studied or not many, "--trial or --study"),
        ("json", value_of(values, "json"), studied or not many, "--trial or --study"),
    ):
        if given and not fits:
            raise UsageError(f"--{flag} goes with {belongs}; usage: facebench {INTERPRET}")
    from facebench.interpret import report, run, text

    ws = workspace(values)
    if value_of(values, "layers"):
        print(run.show_layers(ws, name, value_of(values, "profile")))
        return 0
    asked = {key: value_of(values, key) for key in ("split", "limit", "layer", "codebook")}
    asked |= {key: value_of(values, key) for key in ("placement", "top", "curves")}
    options = report.Options(**asked, profile=tuple(value_of(values, "profile")))
    out = Path(value_of(values, "out")) if value_of(values, "out") else None
    method, shown = value_of(values, "method"), value_of(values, "json")
    if many and not studied:
        table, folders = run.several(ws, names, options, method)
        print(table)
    elif studied:
        found, folder = run.compared(ws, names, options, method, value_of(values, "families"), out)
        print(json.dumps(found, indent=2) if shown else text.study(found))
        folders = [folder]
    else:
        found, folder, _, of = run.one(ws, name, options, out)
        print(json.dumps(found, indent=2) if shown else text.report(found, of.name))
        folders = [folder]
    if not shown:
        print("\nwrote " + ", ".join(ws.relative(folder) for folder in folders))
    return 0


VERBS = {
    "interpret": Verb("where trained networks look, against action units", INTERPRET, _flags, _call)
}
