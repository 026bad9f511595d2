"""The whole path on generated faces, in a workspace of its own: what ``make quickstart`` runs."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from facebench import files, leaderboard, metrics
from facebench import protocol as protocols
from facebench import workspace as workspace_lib
from facebench.errors import FacebenchError
from facebench.protocol import Protocol
from facebench.workspace import Workspace

LANDMARKS = "landmarks/synthface/fractions@2"
RECOGNITION = "recognition/synthface/fractions@2"
EXPERIMENTS = (
    ("landmarks/synthface_floors.py:constant", LANDMARKS, "mean-shape"),
    ("landmarks/synthface_convnet.py", LANDMARKS, "convnet-s"),
    ("recognition/synthface_floors.py:pixels", RECOGNITION, "raw-pixels"),
    ("recognition/synthface_convnet.py", RECOGNITION, "convnet-s"),
)

PAGE = """# quickstart workspace

Made by `facebench quickstart`: a workspace of its own, with the reference workspace's generated
dataset, experiments and protocols. Remove the folder whenever you like.
"""


def make(reference: Workspace, folder: Path) -> Workspace:
    """Makes the workspace, or takes the one that an earlier quickstart made.

    Raises:
        FacebenchError: the folder is somebody else's, or the reference workspace lacks a part.
    """
    mark = folder / workspace_lib.MARK
    if folder.exists() and not mark.exists() and any(folder.iterdir()):
        raise FacebenchError(f"{folder}: not empty and not a workspace; give --dir another folder")
    parts = [
        "datasets/synthface",
        *(f"experiments/{e.partition(':')[0]}" for e, _, _ in EXPERIMENTS),
    ]
    for protocol_id in (LANDMARKS, RECOGNITION):
        parts += [
            f"leaderboards/protocols/{protocol_id}.json",
            f"leaderboards/targets/{protocol_id}.npz",
        ]
    for part in parts:
        there, here = reference.root / part, folder / part
        if there.is_dir():
            shutil.copytree(
                there, here, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        elif there.is_file():
            files.write_atomic(here, there.read_bytes())
        else:
            raise FacebenchError(f"{there}: missing; quickstart starts from the repository")
    files.write_text(mark, PAGE)
    return workspace_lib.find(folder, folder / "data")


def quickstart(reference: Workspace, folder: Path, command: Callable[[Sequence[str]], int]) -> int:
    """Runs the path, command by command, and shows where it led.

    Args:
        reference: the workspace to take datasets, experiments and protocols from.
        folder: where the quickstart's own workspace stands.
        command: runs ``facebench`` with these words.

    Returns:
        an exit code: that of the first command that failed, else 0.
    """
    begun = time.monotonic()
    ws = make(reference, folder.resolve())
    where = [f"--workspace={ws.relative(ws.root)}", f"--data_dir={ws.relative(ws.data)}"]

    def do(*words: str) -> int:
        print(f"\n$ facebench {shlex.join([*words, *where[:1]])}", flush=True)
        return command([*words, *where])

    steps: list[tuple[str, ...]] = [
        ("data", "prepare", f"synthface/{protocols.load(ws, name).dataset['config']}")
        for name in (LANDMARKS, RECOGNITION)
    ]
    for experiment, protocol_id, entry in EXPERIMENTS:
        path = ws.relative(ws.experiments / experiment)
        steps += [
            ("run", f"--config={path}"),
            ("submit", f"--protocol={protocol_id}", f"--entry={entry}"),
        ]
    steps += [("leaderboard", "build"), ("rescore", "--all")]
    for words in steps:
        if code := do(*words):
            return code
    picture = ws.root / "landmarks.png"
    files.write_atomic(picture, _picture(ws))
    for protocol_id in (LANDMARKS, RECOGNITION):
        print(f"\n{leaderboard.board_text(ws, protocol_id)}")
    print(f"\nboard    {ws.relative(ws.leaderboards / 'README.md')}")
    print(f"picture  {ws.relative(picture)}")
    print(f"done in {time.monotonic() - begun:.0f} s")
    return 0


def _error(protocol: Protocol, points: np.ndarray, truth: np.ndarray) -> float:
    """The error of one face in percent, as the judge says it."""
    scored = metrics.score("landmarks", {"points": points}, {"points": truth}, protocol.convention)
    value = scored["nme"]
    return float("nan") if not isinstance(value, (int, float)) else float(value)


def _picture(ws: Workspace, columns: int = 6) -> bytes:
    """Test faces with true and predicted landmarks: from few labels, and from all."""
    from facebench import pictures
    from facebench.data import source, transforms
    from facebench.leaderboard import judge, trial

    protocol = protocols.load(ws, LANDMARKS)
    truth = judge.load_targets(ws, protocol)
    split = source.open(ws, **protocol.dataset).split("test")
    chosen = np.linspace(0, len(split) - 1, columns).astype(int)
    faces = [transforms.decode(split.record(int(i))["image"]) for i in chosen]
    predictions, errors = {}, {}
    for path, value in trial.listing(ws, LANDMARKS, "convnet-s"):
        if value["seed"] != protocol.seeds[0] or value["status"] != "ok":
            continue
        points = protocols.dequantise(protocol, trial.predictions(path, value))["points"][chosen]
        label = f"trained on {value['regime']['value']:.0%} of the labels"
        predictions[label] = points
        errors[label] = [
            _error(protocol, points[[i]], truth["points"][[c]]) for i, c in enumerate(chosen)
        ]
    title = "Test faces that no training saw; error in % of the distance between the eyes"
    return pictures.png(
        pictures.landmark_sheet(faces, truth["points"][chosen], predictions, errors, title)
    )
