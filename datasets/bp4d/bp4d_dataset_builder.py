"""BP4D-Spontaneous: action units of 41 people in 8 tasks, frame by frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from facebench.data import frames, releases
from facebench.formats import action_units, folds

AU = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
GRADED = (6, 10, 12, 14, 17)
EVERY = (1, 5, 25)
FOLDERS = ("frames", "2D+3D", "Sequences", "BP4D-training")

#: Of a task, the number that the videos of the release have in their names.
RAW = {"T1": 1, "T2": 3, "T3": 7, "T4": 8, "T5": 9, "T6": 10, "T7": 11, "T8": 13}


class FrameConfig(tfds.core.BuilderConfig):
    """Who is tested, which codes are read, and how many frames are kept.

    Attributes:
        part: the part that is tested on, or another division of `folds`.
        graded: grades of five action units, instead of the occurrence of twelve.
        every: of so many frames one is kept.
    """

    def __init__(self, part: str, graded: bool, every: int) -> None:
        name = part + "-intensity" * graded + (f"-every-{every}" if every > 1 else "")
        what = "grades of 5 action units" if graded else "occurrence of 12 action units"
        rate = f", one frame in {every}" if every > 1 else ""
        super().__init__(name=name, description=f"tested on {part}: {what}{rate}")
        self.part, self.graded, self.every = part, graded, every

    @property
    def au(self) -> tuple[int, ...]:
        """The action units of the field `au`."""
        return GRADED if self.graded else AU


class Bp4d(tfds.core.GeneratorBasedBuilder):
    """The coded frames of BP4D.

    Attributes:
        TASKS: that are coded.
        OFFICIAL: how many frames have codes of occurrence; another number is refused.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        FrameConfig(part, graded, every)
        for graded in (False, True)
        for every in EVERY
        for part in folds.names("bp4d")
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The folder holds AUCoding/AU_OCC/F001_T1.csv and so on, and the frames as images in "
        "frames/F001/T1 or 2D+3D/F001/T1, or the videos in videos."
    )
    TASKS: ClassVar = tuple(RAW)
    OFFICIAL: ClassVar[int | None] = 146_847
    generated = False

    def _info(self) -> tfds.core.DatasetInfo:
        au = self.builder_config.au
        return tfds.core.DatasetInfo(
            builder=self,
            metadata=tfds.core.MetadataDict(au=list(au)),
            features=tfds.features.FeaturesDict(frames.features(tfds.features, len(au))),
            disable_shuffling=True,
        )

    def _codings(self, root: Path, sessions: list[str]) -> list[action_units.Coding]:
        config, made = self.builder_config, []
        for session in sessions:
            name = session.replace("/", "_")
            if config.graded:
                coding = root / "AUCoding/AU_INT"
                paths = {au: coding / f"AU{au:02d}/{name}_AU{au:02d}.csv" for au in GRADED}
                made.append(action_units.grades(paths, session, unknown=True))
            else:
                path = root / f"AUCoding/AU_OCC/{name}.csv"
                made.append(action_units.occurrence(path, session, AU))
        if not config.graded:
            total = sum(len(coding.frames) for coding in made)
            releases.expect(root / "AUCoding/AU_OCC", "coded frames", total, self.OFFICIAL)
        return made

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        root, config = Path(dl_manager.manual_dir), self.builder_config
        parts = folds.part_of("bp4d")
        sessions = [f"{subject}/{task}" for subject in parts for task in self.TASKS]
        codings = frames.kept(
            self._codings(root, sessions), action_units.left_out(root), config.every, root
        )
        images = frames.source(root, FOLDERS, sessions, lambda s: videos(root, s))
        places = frames.listed(*action_units.beside(root)) or frames.nowhere
        frames.check(codings, images, places)
        top = 5 if config.graded else 1
        return {
            split: frames.samples(codings, images, places, people, parts, top)
            for split, people in folds.divided("bp4d", config.part).items()
        }

    def _generate_examples(self) -> Any:
        raise NotImplementedError  # `frames.samples` does it


def videos(root: Path, session: str) -> list[Path]:
    """What the video of a session may be called, without suffix.

    As renamed by everybody, ``F001_T5``; with the release's short name of the subject, ``2F01_T5``;
    and as released, ``2F01_09``.
    """
    subject, _, task = session.partition("/")
    short = f"2{subject[0]}{subject[2:]}"
    names = (f"{subject}_{task}", f"{short}_{task}", f"{short}_{RAW[task]:02d}")
    return [root / "videos" / name for name in names]
