"""DISFA: grades of 12 action units of 27 people, one video each, frame by frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from facebench.data import frames, releases
from facebench.errors import FacebenchError
from facebench.formats import action_units, folds, matlab

AU = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
EVERY = (1, 5, 20)
POINTS = 66  # those of the 68 without the two inner mouth corners, in their order

#: Of these, the corners of the two eyes, the tip of the nose, the corners of the mouth.
FIVE = ((36, 39), (42, 45), (30, 30), (48, 48), (54, 54))


class FrameConfig(tfds.core.BuilderConfig):
    """Who is tested, and how many frames are kept.

    Attributes:
        part: the part that is tested on, or another division of `folds`.
        every: of so many frames one is kept.
    """

    def __init__(self, part: str, every: int) -> None:
        name = part + (f"-every-{every}" if every > 1 else "")
        rate = f", one frame in {every}" if every > 1 else ""
        super().__init__(name=name, description=f"tested on {part}{rate}")
        self.part, self.every = part, every


class Disfa(tfds.core.GeneratorBasedBuilder):
    """The frames of DISFA.

    Attributes:
        OFFICIAL: how many frames are coded; another number is refused.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        FrameConfig(part, every) for every in EVERY for part in folds.names("disfa")
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The folder holds ActionUnit_Labels/SN001/SN001_au1.txt and so on, and the frames as "
        "images in frames/SN001, or Video_LeftCamera/LeftVideoSN001_comp.avi."
    )
    OFFICIAL: ClassVar[int | None] = 130_814
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
        parts = folds.part_of("disfa")
        read = []
        for subject in parts:
            folder = root / "ActionUnit_Labels" / subject
            paths = {au: folder / f"{subject}_au{au}.txt" for au in AU}
            read.append(action_units.grades(paths, subject, unknown=False))
        total = sum(len(coding.frames) for coding in read)
        releases.expect(root / "ActionUnit_Labels", "coded frames", total, self.OFFICIAL)
        codings = frames.kept(read, action_units.left_out(root), config.every, root)
        images = frames.source(root, ("frames",), list(parts), lambda s: videos(root, s))
        places = frames.listed(*action_units.beside(root))
        if places is None and isinstance(images, frames.Videos):
            places = landmarks(root)
        places = places or frames.nowhere
        frames.check(codings, images, places)
        return {
            split: frames.samples(codings, images, places, people, parts, 5)
            for split, people in folds.divided("disfa", config.part).items()
        }

    def _generate_examples(self) -> Any:
        raise NotImplementedError  # `frames.samples` does it


def videos(root: Path, subject: str) -> list[Path]:
    """Where the left video of a subject may be, without suffix."""
    name = f"LeftVideo{subject}_comp"
    return [root / folder / name for folder in ("Video_LeftCamera", "Videos_LeftCamera")]


def landmarks(root: Path) -> frames.Places | None:
    """Boxes and five points by the 66 points that the release has of its left videos.

    Their files count from 0, ``SN001_0000_lm.mat``, or, of some subjects, from 1,
    ``l00001_lm.mat``. Where a single one is missing, that of the frame before is taken.

    Returns:
        None where the release has no such folder.
    """
    if not (root / "Landmark_Points").is_dir():
        return None

    def places(subject: str, frame: int) -> tuple[np.ndarray, np.ndarray]:
        folder = root / "Landmark_Points" / subject / "tmp_frame_lm"
        for f in (frame, frame - 1):
            for name in (f"{subject}_{f - 1:04d}_lm.mat", f"l0{f:04d}_lm.mat"):
                if f and (folder / name).is_file():
                    points = matlab.points(folder / name, "pts", POINTS)
                    box = np.concatenate([points.min(axis=0), points.max(axis=0)])
                    five = points[list(map(list, FIVE))].mean(axis=1)
                    return box.astype(np.float32), five.astype(np.float32)
        raise FacebenchError(
            f"{folder}: no points of frame {frame}, nor of the one before; give points.csv and "
            "boxes.csv, or list the frame in left_out.csv"
        )

    return places
