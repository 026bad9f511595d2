"""The floor of landmarks: every face gets the mean training shape, whatever the image shows.

facebench run --config=experiments/landmarks/synthface_mean_shape.py
"""

from facebench.config import base


def get_config(arg=""):
    config = base()
    config.entry = "mean-shape"
    config.kind = "floor"
    config.protocol = "landmarks/synthface/fractions@1"
    config.probe.build = "mean_shape"
    return config
