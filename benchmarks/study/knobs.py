"""What the knobs of the generated world do to networks: identity, occlusion, style, groups.

Every study returns tables of cells; a cell is one number per training seed, or one number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from facebench import synth
from facebench.metrics import landmarks as landmark_metrics
from facebench.schemes import SCHEMES
from facebench.synth.labels import OCCLUDER_HIDDEN
from facebench.tasks import Spec

from .learn import Network
from .tracks import TRACKS, Reader, Track
from .worlds import Faces, draw, say

#: Regions of the 68 points that an occluder may cover.
REGIONS = {
    "brows": ("left_brow", "right_brow"),
    "eyes": ("left_eye", "right_eye"),
    "nose": ("nose",),
    "mouth": ("mouth",),
    "jaw": ("jaw",),
}


@dataclasses.dataclass
class Table:
    """A table of a report.

    Attributes:
        title: what it shows.
        header: names of the columns.
        rows: text, a number, or one number per seed.
        notes: how to read it.
    """

    title: str
    header: list[str]
    rows: list[list[Any]]
    notes: str = ""


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large a study is.

    Attributes:
        size: side of the pictures, px.
        train: people and pictures of each, of the base world.
        test: likewise, of other people.
        habits: likewise, of the worlds where people have habits; a fifth of each one's pictures
            is held out.
        groups: likewise, of the worlds with groups; the test worlds have a third of the people.
        steps: updates of a network.
        batch_size: pictures per update.
        seeds: training seeds.
        world: seed of the worlds.
    """

    size: int
    train: tuple[int, int]
    test: tuple[int, int]
    habits: tuple[int, int]
    groups: tuple[int, int]
    steps: int
    batch_size: int
    seeds: tuple[int, ...]
    world: int

    def knobs(self, which: str, counts: tuple[int, int]) -> dict[str, Any]:
        """Size, seed and people of a world; worlds of other names have other people."""
        place = ("train", "test", "habits", "groups", "groups test").index(which)
        return {
            "size": self.size,
            "seed": self.world + place,
            "first_identity": 100_000 * place,
            "identities": counts[0],
            "per_identity": counts[1],
        }


class Lab:
    """The base worlds and the networks trained on them, each made when it is first needed."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self._faces: dict[str, Faces] = {}
        self._readers: dict[str, list[Reader]] = {}
        self._networks: dict[tuple[str, Spec], Network] = {}

    def train(self) -> Faces:
        """The base world."""
        return self.world("train", self.scale.knobs("train", self.scale.train))

    def test(self) -> Faces:
        """Other people, of the same kind of world."""
        return self.world("test", self.scale.knobs("test", self.scale.test))

    def world(self, title: str, knobs: dict[str, Any]) -> Faces:
        """The faces of a world, drawn once per title."""
        if title not in self._faces:
            self._faces[title] = draw(title, **knobs)
        return self._faces[title]

    def readers(self, track: Track) -> list[Reader]:
        """A network per seed, trained on the base world."""
        if track.name not in self._readers:
            self._readers[track.name] = self.trained(track, self.train(), track.name)
        return self._readers[track.name]

    def trained(self, track: Track, faces: Faces, title: str) -> list[Reader]:
        """A network per seed."""
        key = track.name, track.spec(faces)
        if key not in self._networks:
            self._networks[key] = track.network(faces, self.scale.steps, self.scale.batch_size)
        network = self._networks[key]
        arrays = track.arrays(faces)
        return [network.fit(arrays, seed, f"{title}, seed {seed}") for seed in self.scale.seeds]


def _cells(table: Sequence[Sequence[float | None]]) -> list[Any]:
    """Columns of a table with a row per seed; "-" where a seed has no value."""
    return ["-" if None in column else list(column) for column in zip(*table, strict=True)]


def _minus(after: Any, before: Any) -> Any:
    """The difference of two cells, seed by seed."""
    return "-" if "-" in (after, before) else [a - b for a, b in zip(after, before, strict=True)]


def identity_au(lab: Lab) -> list[Table]:
    """Networks for action units that may read the person instead of the face's action."""
    scale, track = lab.scale, TRACKS["action_units"]
    people, each = scale.habits
    held = max(each // 5, 1)
    base = scale.knobs("habits", scale.habits)
    is_held = np.arange(people * each) % each >= each - held
    # The held-out pictures of the same people, whose action units are those of anybody.
    strangers = lab.test()
    worlds = {
        knob: lab.world(f"habits, identity_au={knob}", base | {"identity_au": float(knob)})
        for knob in (0, 1)
    }
    fresh = worlds[0].only(is_held)
    scores: dict[str, dict[int, dict[str, list[float]]]] = {m: {} for m in track.metrics}
    for knob, faces in worlds.items():
        readers = lab.trained(track, faces.only(~is_held), f"action units, identity_au={knob}")
        tests = {
            "own": faces.only(is_held), "fresh": fresh, "new": strangers,
        }  # fmt: skip
        for metric in track.metrics:
            scores[metric][knob] = {
                name: [track.score(test, track.read(reader, test))[metric] for reader in readers]
                for name, test in tests.items()
            }
    rows: list[list[Any]] = []
    for metric, by_knob in scores.items():
        drops = {}
        for knob, cells in by_knob.items():
            drops[knob] = _minus(cells["own"], cells["new"])
            rows.append([metric, knob, cells["own"], cells["fresh"], cells["new"], drops[knob]])
        rows.append([metric, "1 against 0", "", "", "", _minus(drops[1], drops[0])])
    return [
        Table(
            "identity_au: action units, trained where people have habits",
            [
                "metric", "identity_au", "same people, their habits", "same people, no habits",
                "new people, no habits", "drop, first to last",
            ],
            rows,
            f"Trained on {people} people with {each - held} pictures each. With the knob at 1 a "
            "person shows the same action units in every picture, so who it is says which; the "
            "tests without habits have the law of action units of identity_au=0.",
        )
    ]  # fmt: skip


def occlusion(lab: Lab) -> list[Table]:
    """Landmark errors where something covers the face, against the same faces uncovered."""
    track, plain = TRACKS["landmarks"], lab.test()
    knobs = lab.scale.knobs("test", lab.scale.test) | {"occlusion": 1.0}
    covered = lab.world("test, covered", knobs)
    if not np.array_equal(covered.points, plain.points):
        raise SystemExit("occlusion: the covered faces are not the same faces; cannot compare")
    behind = (covered.hidden & OCCLUDER_HIDDEN) > 0
    already = (plain.hidden & OCCLUDER_HIDDEN) > 0  # behind glasses in both
    columns = {
        name: [k for part in parts for k in SCHEMES[68].regions[part]]
        for name, parts in REGIONS.items()
    }
    # A face counts where more than half of the region's points lie behind the new occluder.
    sets = {
        name: (behind[:, places] & ~already[:, places]).mean(axis=1) > 0.5
        for name, places in columns.items()
    }
    errors = [
        (_point_errors(reader, plain), _point_errors(reader, covered))
        for reader in lab.readers(track)
    ]
    matrix: list[list[Any]] = []
    for name, rows in sets.items():
        line: list[Any] = [name, int(rows.sum())]
        for places in columns.values():
            if rows.sum() < 5:
                line.append("-")
                continue
            place = np.ix_(rows, places)
            line.append(
                [float(after[place].mean() - before[place].mean()) for before, after in errors]
            )
        matrix.append(line)
    points: list[list[Any]] = []
    for name, places in columns.items():
        hit, clear = behind[:, places] & ~already[:, places], ~behind[:, places]
        row: list[Any] = [name, int(hit.sum())]
        for which in (hit, clear):
            for now in (0, 1):
                cell = "-" if not which.any() else [
                    float(pair[now][:, places][which].mean()) for pair in errors
                ]  # fmt: skip
                row.append(cell)
        points.append(row)
    return [
        Table(
            "occlusion: rise of the landmark error (points of NME) by what is covered",
            ["covered", "faces", *columns],
            matrix,
            "The same faces with and without an occluder. A row holds the faces where more than "
            "half of a region's points lie behind it, a column the region whose error is meant.",
        ),
        Table(
            "occlusion: landmark error (NME, %) of points behind an occluder and of the others",
            [
                "region", "points behind", "behind: before", "behind: covered",
                "others: before", "others: covered",
            ],
            points,
            "Before: the same points of the same faces without the occluder.",
        ),
    ]  # fmt: skip


def _point_errors(reader: Reader, faces: Faces) -> np.ndarray:
    normaliser = SCHEMES[68].normalisers["inter-ocular"]
    length = landmark_metrics.normaliser_length(faces.points, normaliser)
    return 100 * landmark_metrics.point_errors(
        TRACKS["landmarks"].read(reader, faces)["points"], faces.points, length
    )


def style(lab: Lab) -> list[Table]:
    """Expression accuracy of photograph-trained networks on drawings of the same faces."""
    track, readers = TRACKS["expression"], lab.readers(TRACKS["expression"])
    plain = lab.test()
    rows = [["none", 0.0, *_expression_cells(track, plain, readers)]]
    for name in synth.FILTERS[1:]:
        for strength in (0.5, 1.0):
            knobs = lab.scale.knobs("test", lab.scale.test)
            knobs |= {"style": name, "style_rate": 1.0, "style_strength": strength}
            faces = lab.world(f"test, {name} {strength}", knobs)
            if not np.array_equal(faces.expression, plain.expression):
                raise SystemExit("style: the styled faces are not the same faces; cannot compare")
            rows.append([name, strength, *_expression_cells(track, faces, readers)])
    return [
        Table(
            "style: expression of the same faces in other styles, trained on photographs",
            ["style", "strength", *track.metrics],
            rows,
        )
    ]


def _expression_cells(track: Track, faces: Faces, readers: Sequence[Reader]) -> list[list[float]]:
    results = [track.score(faces, track.read(reader, faces)) for reader in readers]
    return [[result[metric] for result in results] for metric in track.metrics]


def groups(lab: Lab) -> list[Table]:
    """Accuracy per appearance group, trained on groups of equal and of unequal size."""
    scale, count = lab.scale, 4
    base = {"groups": count, "group_strength": 1.0}
    people, each = scale.groups
    tested = (max(people // 3, 2 * count), each)
    test = lab.world("groups, test", scale.knobs("groups test", tested) | base)
    trained = {
        value: lab.world(
            f"groups, group_imbalance={value}",
            scale.knobs("groups", scale.groups) | base | {"group_imbalance": float(value)},
        )
        for value in (0, 1)
    }
    names = np.unique(test.group)
    tables = []
    for task, metric in (("expression", "accuracy"), ("recognition", "auc")):
        track, rows, cells = TRACKS[task], [], {}
        for value, faces in trained.items():
            readers = lab.trained(track, faces, f"{task}, group_imbalance={value}")
            results = [
                _per_group(track, test, track.read(reader, test), metric) for reader in readers
            ]
            shown = [int(np.unique(faces.identity[faces.group == g]).size) for g in names]
            cells[value] = _cells(results)
            full = [row for row in results if None not in row]
            spread = [max(row) - min(row) for row in full] if len(full) == len(results) else "-"
            rows.append([value, "people in training", *shown, ""])
            rows.append([value, metric, *cells[value], spread])
        change = [_minus(after, before) for before, after in zip(cells[0], cells[1], strict=True)]
        rows.append(["1 against 0", metric, *change, ""])
        tables.append(
            Table(
                f"groups: {task} per appearance group, tested on groups of equal size",
                ["group_imbalance", "", *(f"group {g}" for g in names), "largest - smallest"],
                rows,
                ""
                if task == "expression"
                else "Pairs of people of one group only: telling them apart is harder than "
                "telling groups apart.",
            )
        )
    return tables


def _per_group(track: Track, faces: Faces, outputs: Any, metric: str) -> list[float | None]:
    if track.name == "expression":
        return track.score(faces, outputs, group=faces.group)[f"{metric}_per_group"]
    values = []
    for name in np.unique(faces.group):
        rows = faces.group == name
        values.append(
            track.score(faces.only(rows), {"embedding": outputs["embedding"][rows]})[metric]
        )
    return values


KNOBS: dict[str, Callable[[Lab], list[Table]]] = {
    "identity_au": identity_au,
    "occlusion": occlusion,
    "style": style,
    "groups": groups,
}

#: The field of `facebench.synth.WorldConfig` that each study turns.
NEEDS = {
    "identity_au": ("identity_au",),
    "occlusion": ("occlusion",),
    "style": ("style", "style_rate", "style_strength"),
    "groups": ("groups", "group_strength", "group_imbalance"),
}


def require(name: str) -> None:
    """Refuses a study whose knob this world does not have.

    Raises:
        SystemExit: it names the knob.
    """
    known = {f.name for f in dataclasses.fields(synth.WorldConfig)}
    for knob in NEEDS[name]:
        if knob not in known:
            raise SystemExit(
                f"instrument: study {name!r} needs the knob {knob!r}, which WorldConfig of "
                f"facebench.synth {synth.VERSION} does not have; leave it out with --knobs="
            )


def run(name: str, lab: Lab) -> list[Table]:
    """One study by its name."""
    say(f"== knob: {name}")
    return KNOBS[name](lab)
