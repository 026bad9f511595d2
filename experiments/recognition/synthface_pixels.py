"""The floor of recognition: generated faces compared pixel by pixel.

facebench run --config=experiments/recognition/synthface_pixels.py
"""

from facebench.config import base


def get_config(arg=""):
    config = base()
    config.entry = "raw-pixels"
    config.kind = "floor"
    config.protocol = "recognition/synthface/fractions@1"
    config.probe.build = "raw_pixels"
    return config
