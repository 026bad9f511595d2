"""Sheets of the generated world: ``python -m facebench.synth faces FILE.png``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2

from facebench import files
from facebench.errors import FacebenchError
from facebench.synth import sheet
from facebench.synth.manifest import manifest_digest

_ABOUT = {
    "faces": "people, their expressions and poses",
    "actions": "every action unit at 0, 0.5 and 1, and the difference",
    "labels": "one face with its labels",
    "knobs": "what age, makeup, occluders, styles, light and the sensor do",
}

_LIMITS = (("size", 16, 1024), ("seed", 0, 2**63 - 1), ("identities", 1, 100), ("n", 1, 10**6))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m facebench.synth",
        description="Draws sheets of the generated world, or prints its digest.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, about in _ABOUT.items():
        command = commands.add_parser(name, help=about, description=f"Draws {about}.")
        command.add_argument("file", type=Path, metavar="FILE.png", help="where to write")
        command.add_argument("--size", type=int, default=128, help="px of each face (128)")
        if name == "faces":
            command.add_argument("--seed", type=int, default=0, help="which world (0)")
            command.add_argument("--identities", type=int, default=6, help="how many people (6)")
        else:
            command.add_argument(
                "--seed", type=int, help="show the first person of this world, not the mean one"
            )
    command = commands.add_parser("digest", help="the digest of a fixed small world")
    command.add_argument("--n", type=int, default=64, help="how many faces (64)")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Runs a command; its exit code: 0 done, 1 a fault, 2 misuse."""
    parser = _parser()
    given = parser.parse_args(words)
    try:
        for name, low, high in _LIMITS:
            value = getattr(given, name, None)
            if value is not None and not low <= value <= high:
                parser.error(f"--{name}: found {value}, expected a number in [{low}, {high}]")
        if given.command == "digest":
            print(manifest_digest(given.n))
            return 0
        if given.file.suffix.lower() != ".png":
            parser.error(f"{given.file}: sheets are PNG; name the file {given.file.stem}.png")
        made = {
            "faces": lambda: sheet.contact_sheet(
                given.identities, size=given.size, seed=given.seed
            ),
            "actions": lambda: sheet.au_sheet(given.size, given.seed),
            "labels": lambda: sheet.label_sheet(given.size, given.seed),
            "knobs": lambda: sheet.knob_sheet(given.size, given.seed),
        }[given.command]()
        files.write_atomic(given.file, cv2.imencode(".png", made[..., ::-1])[1].tobytes())
    except FacebenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(given.file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
