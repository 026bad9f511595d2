"""Losses on where a network looks.

* `alignment`: its attention should lie where a map says (Belharbi et al., "Guided interpretable
  facial expression recognition via spatial action unit cues", FG 2024, eq. 1): 1 - cosine.
* `flip_consistency`: the class maps of a mirror image should be the mirrored class maps (Zhang et
  al., "Learn from all: erasing attention consistency for noisy label facial expression
  recognition", ECCV 2022, eq. 6): the mean square of the difference.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

Array = jax.Array

#: A map of a length below this counts as this long: a cosine with zeros is 0, and no gradient of a
#: cosine is longer than 1 / EPS.
EPS = 1e-4


def attention(features: Array) -> Array:
    """The attention [B, h, w] of a feature map [B, h, w, D]: its mean over the channels."""
    return features.astype(jnp.float32).mean(-1)


def cosine(a: Array, b: Array) -> Array:
    """Cosines [B] between maps [B, h, w], as vectors of h w numbers; see `EPS`."""
    first, second = (x.astype(jnp.float32).reshape(len(x), -1) for x in (a, b))

    def inverse_length(x: Array) -> Array:
        return jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(1), EPS**2))

    return (first * second).sum(1) * inverse_length(first) * inverse_length(second)


def alignment(a: Array, target: Array, valid: Array) -> tuple[Array, Array]:
    """The loss of an attention against the map of where it should be.

    Args:
        a: attention [B, h, w].
        target: [B, h, w], not negative; no gradient flows into it.
        valid: bool [B], which examples have a map.

    Returns:
        1 - cosine, and the cosine, float32 [B] each, 0 where not `valid`.
    """
    found = cosine(a, jax.lax.stop_gradient(target))
    return jnp.where(valid, 1 - found, 0), jnp.where(valid, found, 0)


def flip_consistency(maps: Array, mirrored: Array) -> Array:
    """How far the class maps of a mirror image are from the mirrored class maps.

    Args:
        maps: [B, h, w, C], of the images.
        mirrored: [B, h, w, C], of the mirror images.

    Returns:
        float32 [B]: the mean square of the difference, over positions and classes.
    """
    difference = maps.astype(jnp.float32) - mirrored[:, :, ::-1].astype(jnp.float32)
    return jnp.square(difference).mean((1, 2, 3))
