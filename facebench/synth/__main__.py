"""``python -m facebench.synth [FILE.png]``: a contact sheet of the generated world."""

import sys
from pathlib import Path

import cv2

from facebench import files, synth

path = Path(sys.argv[1] if len(sys.argv) > 1 else "faces.png")
sheet = synth.contact_sheet(4, size=96, seed=7)
files.write_atomic(path, cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())
print(path)
