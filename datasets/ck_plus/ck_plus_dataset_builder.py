"""Extended Cohn-Kanade (CK+): posed expressions from neutral to apex, ten folds of subjects."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from facebench.data import releases
from facebench.errors import FacebenchError
from facebench.formats import text
from facebench.schemes import AU_NAMES, EXPRESSION_ORDERS

CLASSES = EXPRESSION_ORDERS["ck_plus"]
FOLDS = 10
POINTS = 68
AUS = tuple(AU_NAMES)
IMAGES, EMOTIONS, FACS, LANDMARKS = "cohn-kanade-images", "Emotion", "FACS", "Landmarks"
SUBJECT, SEQUENCE = re.compile("S[0-9]{3}"), re.compile("[0-9]{3}")

#: Config, without its fold, to: frames up to the apex, whether the first frame is neutral.
RULES = {"apex": (1, False), "last3": (3, False), "last3-neutral": (3, True)}


class Sequence(NamedTuple):
    """A labelled sequence.

    Attributes:
        subject: such as ``S005``.
        name: such as ``001``.
        apex: number of the labelled frame.
        label: its file.
    """

    subject: str
    name: str
    apex: int
    label: Path


def folders(parent: Path, form: re.Pattern[str]) -> list[str]:
    """The folders in a folder whose names are of a form, ascending; others are passed over."""
    if not parent.is_dir():
        raise FacebenchError(f"{parent}: no such folder; see datasets/ck_plus/README.md")
    return sorted(e.name for e in os.scandir(parent) if e.is_dir() and form.fullmatch(e.name))


def labelled(root: Path, kind: str) -> list[Sequence]:
    """The sequences that have a file of labels, by subject and name.

    Args:
        root: of the release.
        kind: ``Emotion`` or ``FACS``.

    Raises:
        FacebenchError: a sequence has two files, or one that is not named after it.
    """
    end = {EMOTIONS: "emotion", FACS: "facs"}[kind]
    made = []
    for subject in folders(root / kind, SUBJECT):
        for name in folders(root / kind / subject, SEQUENCE):
            folder = root / kind / subject / name
            found = sorted(p for p in folder.iterdir() if p.suffix == ".txt" and p.name[0] != ".")
            if not found:
                continue
            match = re.fullmatch(f"{subject}_{name}_([0-9]{{8}})_{end}.txt", found[0].name)
            if len(found) > 1 or match is None:
                raise FacebenchError(
                    f"{folder}: holds {', '.join(p.name for p in found[:3])}, expected one file "
                    f"{subject}_{name}_NNNNNNNN_{end}.txt"
                )
            made.append(Sequence(subject, name, int(match[1]), found[0]))
    return made


def fold_of(subjects: list[str]) -> dict[str, int]:
    """The fold of each subject, 1 to 10: in ascending order every tenth is of one fold."""
    return {subject: i % FOLDS + 1 for i, subject in enumerate(sorted(set(subjects)))}


def frames(root: Path, sequence: Sequence) -> list[int]:
    """The numbers of a sequence's images, ascending.

    Raises:
        FacebenchError: a PNG of another name, or the labelled frame is missing.
    """
    folder = root / IMAGES / sequence.subject / sequence.name
    if not folder.is_dir():
        raise FacebenchError(f"{folder}: no such folder, but {sequence.label} labels a frame of it")
    made = []
    for entry in os.scandir(folder):
        if entry.name.startswith(".") or not entry.name.lower().endswith(".png"):
            continue
        match = re.fullmatch(rf"{sequence.subject}_{sequence.name}_([0-9]{{8}})\.png", entry.name)
        if match is None:
            raise FacebenchError(
                f"{entry.path}: expected {sequence.subject}_{sequence.name}_NNNNNNNN.png"
            )
        made.append(int(match[1]))
    if sequence.apex not in made:
        raise FacebenchError(f"{folder}: frame {sequence.apex}, which {sequence.label} labels, is "
                             "missing")  # fmt: skip
    return sorted(made)


def _rows(path: Path, columns: int) -> list[list[float]]:
    """Lines of `columns` numbers; blank ones may stand at the end."""
    made = []
    for number, line in text.lines(path):
        try:
            row = [float(token) for token in line.split()]
        except ValueError:
            row = []
        if len(row) != columns or not all(map(math.isfinite, row)):
            raise FacebenchError(
                f"{path}: line {number}: found {text.shown(line)}, expected {columns} number(s)"
            )
        made.append(row)
    return made


def read_emotion(path: Path) -> int:
    """The class of a sequence, 1 to 7: a place in `CLASSES`.

    Raises:
        FacebenchError: the file holds something else.
    """
    rows = _rows(path, 1)
    if len(rows) != 1 or rows[0][0] not in range(1, len(CLASSES)):
        found = [row[0] for row in rows[:3]]
        raise FacebenchError(f"{path}: found {found}, expected one number, 1 to {len(CLASSES) - 1}")
    return int(rows[0][0])


def read_facs(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The action units of an apex.

    Returns:
        occurrence float32 [A], 0 or 1, and intensity float32 [A], 1 to 5 for A to E, 0 where the
        action unit does not occur, -1 where it occurs and was not scored; in the order of `AUS`.

    Raises:
        FacebenchError: a line that is not an action unit and an intensity from 0 to 5.
    """
    occurs, strength = np.zeros(len(AUS), np.float32), np.zeros(len(AUS), np.float32)
    for number, (unit, intensity) in enumerate(_rows(path, 2), 1):
        if unit != int(unit) or not 1 <= unit <= 99 or intensity not in range(6):
            raise FacebenchError(
                f"{path}: line {number}: found {unit:g} {intensity:g}, expected an action unit and "
                "an intensity from 0 to 5"
            )
        if int(unit) in AUS:
            place = AUS.index(int(unit))
            occurs[place] = 1
            strength[place] = max(strength[place], intensity) if intensity else strength[place]
    strength[(occurs > 0) & (strength == 0)] = -1
    return occurs, strength


def read_points(path: Path) -> np.ndarray:
    """68 points, float32 [68, 2], pixels as they stand in the file.

    Raises:
        FacebenchError: fewer, more, or something else.
    """
    rows = _rows(path, 2)
    if len(rows) != POINTS:
        raise FacebenchError(f"{path}: {len(rows)} points, expected {POINTS}")
    return np.array(rows, np.float32)


class CkPlus(tfds.core.GeneratorBasedBuilder):
    """327 labelled sequences of 118 subjects; action units of more.

    Attributes:
        OFFICIAL: sequences with an expression, and subjects who have any.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=f"{rule}-fold{fold}", description=f"fold {fold} is test")
        for rule in (*RULES, "facs")
        for fold in range(1, FOLDS + 1)
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The folder holds cohn-kanade-images, Emotion, FACS and Landmarks, each with S005/001/... "
        "for every subject and sequence."
    )
    OFFICIAL: ClassVar[dict[str, int]] = {"sequences": 327, "subjects": 118}
    generated = False

    @property
    def _rule(self) -> tuple[str, int]:
        rule, _, fold = self.builder_config.name.rpartition("-fold")
        return rule, int(fold)

    def _info(self) -> tfds.core.DatasetInfo:
        features: dict[str, Any] = {
            "key": tfds.features.Text(),
            "unit": tfds.features.Text(),
            "image": tfds.features.Image(shape=(None, None, 3)),
            "points": tfds.features.Tensor(shape=(POINTS, 2), dtype=np.float32),
            "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),
        }
        metadata = None
        rule, _ = self._rule
        if rule == "facs":
            features["au"] = tfds.features.Tensor(shape=(len(AUS),), dtype=np.float32)
            features["intensity"] = tfds.features.Tensor(shape=(len(AUS),), dtype=np.float32)
            metadata = tfds.core.MetadataDict(au=list(AUS))
        else:
            names = CLASSES if RULES[rule][1] else CLASSES[1:]
            features["expression"] = tfds.features.ClassLabel(names=list(names))
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            metadata=metadata,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        root = Path(dl_manager.manual_dir)
        rule, test = self._rule
        sequences = labelled(root, FACS if rule == "facs" else EMOTIONS)
        fold = fold_of([sequence.subject for sequence in sequences])
        if rule != "facs":
            where = root / EMOTIONS
            releases.expect(where, "labels", len(sequences), self.OFFICIAL.get("sequences"))
            releases.expect(where, "subjects", len(fold), self.OFFICIAL.get("subjects"))
        parts = {
            "train": [s for s in sequences if fold[s.subject] != test],
            "test": [s for s in sequences if fold[s.subject] == test],
        }
        return {split: self._generate_examples(root, part) for split, part in parts.items()}

    def _chosen(self, root: Path, sequence: Sequence) -> list[tuple[int, dict[str, Any]]]:
        """Which frames of a sequence are samples, and what is known of each."""
        there = frames(root, sequence)
        until = there[: there.index(sequence.apex) + 1]
        rule, _ = self._rule
        if rule == "facs":
            occurs, strength = read_facs(sequence.label)
            return [(until[-1], {"au": occurs, "intensity": strength})]
        count, neutral = RULES[rule]
        if len(until) < count + neutral:
            raise FacebenchError(
                f"{root / IMAGES / sequence.subject / sequence.name}: {len(until)} frames up to "
                f"the apex, expected at least {count + neutral}"
            )
        label = read_emotion(sequence.label)
        made = [(n, {"expression": label if neutral else label - 1}) for n in until[-count:]]
        return [(until[0], {"expression": 0}), *made] if neutral else made

    def _generate_examples(
        self, root: Path, sequences: list[Sequence]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        row = 0
        for sequence in sequences:
            where = Path(sequence.subject) / sequence.name
            for number, labels in self._chosen(root, sequence):
                stem = f"{sequence.subject}_{sequence.name}_{number:08d}"
                points = read_points(root / LANDMARKS / where / f"{stem}_landmarks.txt")
                yield (
                    row,
                    {
                        "key": f"{sequence.subject}/{sequence.name}/{number}",
                        "unit": sequence.subject,
                        "image": releases.encoded(root / IMAGES / where / f"{stem}.png"),
                        "points": points,
                        "box": np.concatenate([points.min(axis=0), points.max(axis=0)]),
                        **labels,
                    },
                )
                row += 1
