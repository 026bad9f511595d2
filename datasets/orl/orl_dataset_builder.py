"""The ORL face database (AT&T Laboratories Cambridge), read from its release folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

from facebench.errors import FacebenchError

SUBJECTS, IMAGES = 40, 10
WIDTH, HEIGHT = 92, 112
TEST_SUBJECTS = 10
REMEDY = "unpack the official release again, with nothing added (datasets/orl/README.md)"

# P5, width, height, largest grey value; white space or comments between; one white space; pixels
_HEADER = re.compile(rb"P5((?:\s|#[^\n]*\n)+)(\d+)(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s")


def subjects_of(split: str) -> list[int]:
    """The subjects of a split, by number.

    The test subjects are the ten whose names (``s1`` to ``s40``) have the smallest SHA-256; the
    other thirty are for training.
    """
    ranked = sorted(
        range(1, SUBJECTS + 1), key=lambda n: hashlib.sha256(f"s{n}".encode()).hexdigest()
    )
    return sorted(ranked[:TEST_SUBJECTS] if split == "test" else ranked[TEST_SUBJECTS:])


def images_of(split: str, config: str) -> list[tuple[int, int]]:
    """The images of a split, as (subject, number).

    ``subject-exclusive``: all images of `subjects_of`. ``closed-set``: of every subject images 1 to
    5 for training, 6 to 10 for testing.
    """
    if config == "subject-exclusive":
        return [(n, m) for n in subjects_of(split) for m in range(1, IMAGES + 1)]
    half = IMAGES // 2
    first = 1 if split == "train" else half + 1
    return [(n, m) for n in range(1, SUBJECTS + 1) for m in range(first, first + half)]


def read_pgm(path: Path) -> np.ndarray:
    """Reads one image of the release.

    Returns:
        uint8 [112, 92], grey.

    Raises:
        FacebenchError: not a binary PGM, of another size or depth, cut off or too long.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FacebenchError(f"{path}: cannot be read: {error.strerror}; {REMEDY}") from error
    if data[:2] != b"P5":
        raise FacebenchError(f"{path}: begins with {data[:2]!r}, expected b'P5' (PGM); {REMEDY}")
    if (header := _HEADER.match(data)) is None:
        raise FacebenchError(f"{path}: the PGM header is cut off or damaged; {REMEDY}")
    width, height, top = (int(group) for group in header.groups()[1:])
    if (width, height, top) != (WIDTH, HEIGHT, 255):
        raise FacebenchError(
            f"{path}: {width} x {height} pixels up to {top}, expected {WIDTH} x {HEIGHT} up to "
            f"255; {REMEDY}"
        )
    pixels = data[header.end() :]
    if len(pixels) != WIDTH * HEIGHT:
        raise FacebenchError(
            f"{path}: {len(pixels)} bytes of pixels, expected {WIDTH * HEIGHT}; {REMEDY}"
        )
    return np.frombuffer(pixels, np.uint8).reshape(HEIGHT, WIDTH)


def check_release(folder: Path) -> None:
    """Checks that a folder holds the 400 images of the release and no others.

    Files that are not PGM (the README, a system's own) are passed over. An image too many is an
    error like one too few: results would be of another dataset.

    Raises:
        FacebenchError: what is missing and what is too much, each by name.
    """
    expected = {f"s{n}/{m}.pgm" for n in range(1, SUBJECTS + 1) for m in range(1, IMAGES + 1)}
    found = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() == ".pgm"
    }
    faults = []
    for n in range(1, SUBJECTS + 1):
        if not (folder / f"s{n}").is_dir():
            faults.append(f"the folder s{n} is missing")
            expected -= {f"s{n}/{m}.pgm" for m in range(1, IMAGES + 1)}
    faults += [f"{name} is missing" for name in sorted(expected - found)]
    faults += [f"{name} is not of the release" for name in sorted(found - expected)]
    if faults:
        more = f", and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise FacebenchError(f"{folder}: {', '.join(faults[:5])}{more}; {REMEDY}")


class Orl(tfds.core.GeneratorBasedBuilder):
    """40 people, 10 grey images each, 92 x 112 pixels."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012 - as TFDS has it
        tfds.core.BuilderConfig(
            name="subject-exclusive",
            description="30 subjects to train on, the 10 others to test on",
        ),
        tfds.core.BuilderConfig(
            name="closed-set",
            description="images 1 to 5 of every subject to train on, 6 to 10 to test on",
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The folder holds s1 to s40, each with 1.pgm to 10.pgm, as AT&T Laboratories Cambridge "
        "released them."
    )
    generated = False

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "key": tfds.features.Text(),
                "unit": tfds.features.Text(),
                "image": tfds.features.Image(shape=(HEIGHT, WIDTH, 1), encoding_format="png"),
                "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),
                "identity": tfds.features.Scalar(dtype=np.int32),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        folder = Path(dl_manager.manual_dir)
        check_release(folder)
        return {split: self._generate_examples(folder, split) for split in ("train", "test")}

    def _generate_examples(self, folder: Path, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for n, m in images_of(split, self.builder_config.name):
            encoded = cv2.imencode(".png", read_pgm(folder / f"s{n}" / f"{m}.pgm"))[1]
            yield (
                n * 100 + m,
                {
                    "key": f"s{n}/{m}",
                    "unit": f"s{n}",
                    "image": encoded.tobytes(),
                    # the whole image; pixel centres stand at whole numbers
                    "box": np.float32([-0.5, -0.5, WIDTH - 0.5, HEIGHT - 0.5]),
                    "identity": n,
                },
            )
