"""BP4D+: action units of 140 people in the four of ten tasks that are coded, frame by frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from facebench.data import frames
from facebench.formats import action_units, folds

AU = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
EVERY = (1, 5, 25)
FOLDERS = ("frames", "2D+3D", "Sequences")


class FrameConfig(tfds.core.BuilderConfig):
    """Who is tested, and how many frames are kept.

    Attributes:
        part: the part that is tested on.
        every: of so many frames one is kept.
    """

    def __init__(self, part: str, every: int) -> None:
        name = part + (f"-every-{every}" if every > 1 else "")
        rate = f", one frame in {every}" if every > 1 else ""
        super().__init__(name=name, description=f"tested on {part}{rate}")
        self.part, self.every = part, every


class Bp4dPlus(tfds.core.GeneratorBasedBuilder):
    """The coded frames of BP4D+.

    Attributes:
        TASKS: that are coded.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        FrameConfig(part, every) for every in EVERY for part in folds.names("bp4d_plus")
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The folder holds AUCoding/AU_OCC/F001_T1.csv and so on, and the frames as images in "
        "frames/F001/T1 or 2D+3D/F001/T1, or videos/F001_T1.mp4."
    )
    TASKS: ClassVar = ("T1", "T6", "T7", "T8")
    generated = False

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            metadata=tfds.core.MetadataDict(au=list(AU)),
            features=tfds.features.FeaturesDict(frames.features(tfds.features, len(AU))),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        root, config = Path(dl_manager.manual_dir), self.builder_config
        parts = folds.part_of("bp4d_plus")
        sessions = [f"{subject}/{task}" for subject in parts for task in self.TASKS]
        coding = root / "AUCoding/AU_OCC"
        read = [
            action_units.occurrence(coding / f"{session.replace('/', '_')}.csv", session, AU)
            for session in sessions
        ]
        codings = frames.kept(read, action_units.left_out(root), config.every, root)
        images = frames.source(
            root, FOLDERS, sessions, lambda s: [root / "videos" / s.replace("/", "_")]
        )
        places = frames.listed(*action_units.beside(root)) or frames.nowhere
        frames.check(codings, images, places)
        return {
            split: frames.samples(codings, images, places, people, parts, 1)
            for split, people in folds.divided("bp4d_plus", config.part).items()
        }

    def _generate_examples(self) -> Any:
        raise NotImplementedError  # `frames.samples` does it
