"""Who is trained on and who is tested: the published subject lists of action unit sets.

One table of facts. A division into parts is named by the part that is tested on, never by the
number of a fold: published codes test the same parts in opposite orders. ME-GraphAU's fold 1 and
AU-Net's first split test the part that is called ``p3`` here, the fold 1 of FMAE-IAT and FG-Net
tests ``p1``.

Sources: BP4D and DISFA ``p1`` to ``p3``: the lists of JAA-Net, ME-GraphAU, FG-Net and FMAE-IAT,
which have the same people; BP4D+ ``f1`` to ``f4``: FMAE-IAT, drawn at random by its authors;
``opengraphau``: OpenGraphAU, the only published lists with a dev part. DISFA's people have the
numbers 1 to 13, 16 to 18, 21 and 23 to 32, without 14, 15, 19, 20 and 22.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from facebench.errors import UsageError, nearest

Lists = Mapping[str, tuple[str, ...]]

OPENGRAPHAU = "opengraphau"


def _lists(prefix: str = "", **parts: str) -> Lists:
    made = {name: tuple(sorted(prefix + s for s in text.split())) for name, text in parts.items()}
    return MappingProxyType(made)


#: Dataset -> part -> its subjects.
PARTS: Mapping[str, Lists] = MappingProxyType(
    {
        "bp4d": _lists(
            p1="F001 F002 F008 F009 F010 F016 F018 F023 M001 M004 M007 M008 M012 M014",
            p2="F003 F005 F011 F013 F020 F022 M002 M005 M010 M011 M013 M016 M017 M018",
            p3="F004 F006 F007 F012 F014 F015 F017 F019 F021 M003 M006 M009 M015",
        ),
        "disfa": _lists(
            "SN",
            p1="001 002 009 010 016 026 027 030 032",
            p2="006 011 012 013 018 021 024 028 031",
            p3="003 004 005 007 008 017 023 025 029",
        ),
        "bp4d_plus": _lists(
            f1="""
            M040 F072 M015 M029 M003 F076 F053 F026 F044 F066 F057 F061 F071 M050 M033 F079 F020
            M025 F014 F004 F013 M017 F033 M042 M004 F038 F019 M036 M026 M048 F039 F046 M051 F047
            M020
            """,
            f2="""
            F074 F012 F034 M001 F056 F075 M009 M038 F024 M047 F016 M045 M034 M022 F060 M011 M044
            M046 M005 M028 F077 F028 M055 M019 F032 F030 M037 M043 F031 F022 M023 M018 M016 F065
            M052
            """,
            f3="""
            F029 F054 F064 F045 F009 F040 F008 M041 F063 M056 M024 F001 F080 M010 F062 F035 M054
            F052 F027 F043 F042 F050 M057 F078 F058 F017 M035 M030 M027 F021 M031 F069 F002 M008
            F068
            """,
            f4="""
            M058 F037 F010 F023 M007 M002 F025 F073 F048 F041 F051 F011 M032 F005 M021 F018 M013
            M049 M014 F070 F006 F067 M039 M006 F059 F003 F007 F049 M053 F081 F055 M012 F082 F015
            F036
            """,
        ),
    }
)

#: Dataset -> split -> its subjects, where a publication names train, dev and test.
SPLITS: Mapping[str, Lists] = MappingProxyType(
    {
        "bp4d": _lists(
            train="""
            F001 M007 F018 F008 F002 M004 F009 M012 M001 F020 M014 F014 F023 M008 M010 M002 F005
            F022 M018 M017 F013 M013
            """,
            dev="F003 M016 F011 M005 F016 M011",
            test="F007 F015 F006 F019 M006 M009 F012 M003 F004 F021 F017 M015 F010",
        ),
        "disfa": _lists(
            "SN",
            train="002 010 027 032 030 009 016 013 018 011 028 024 003 029",
            dev="012 006 031 021",
            test="023 025 008 005 007 017 004 001 026",
        ),
    }
)


def names(dataset: str) -> tuple[str, ...]:
    """The ways a dataset is divided: its parts, each as the test, then `OPENGRAPHAU`."""
    return (*PARTS[dataset], *([OPENGRAPHAU] if dataset in SPLITS else []))


def divided(dataset: str, name: str) -> dict[str, tuple[str, ...]]:
    """The subjects of each split.

    Args:
        dataset: ``bp4d``, ``bp4d_plus`` or ``disfa``.
        name: the part that is tested on, all others being trained on; or `OPENGRAPHAU`.

    Returns:
        ``train`` and ``test``, and ``dev`` between them where a publication names one.

    Raises:
        UsageError: no such dataset or division.
    """
    if dataset not in PARTS:
        raise UsageError(f"no subject lists of {dataset!r}: {nearest(dataset, PARTS)}")
    if name not in names(dataset):
        raise UsageError(f"{dataset} has no part {name!r}: {nearest(name, names(dataset))}")
    if name == OPENGRAPHAU:
        return dict(SPLITS[dataset])
    parts = PARTS[dataset]
    others = tuple(sorted(s for other in parts if other != name for s in parts[other]))
    return {"train": others, "test": parts[name]}


def part_of(dataset: str) -> dict[str, int]:
    """Every subject of a dataset and the number of its part, from 1, in the subjects' order."""
    made = {s: i for i, part in enumerate(PARTS[dataset].values(), 1) for s in part}
    return dict(sorted(made.items()))
