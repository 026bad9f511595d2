"""Backbones: images to features. One file per family, Flax Linen.

A backbone is a Flax module, and this page is all it has to know:

    class Net(nn.Module):
        ...                                # sizes, with defaults
        dtype: Any = jnp.float32           # what the inner products compute in
        axis_name: str | None = None       # only if it has batch norm: hand it to nn.BatchNorm

        @nn.compact
        def __call__(self, image, *, train: bool) -> dict:
            ...
            return {"pooled": pooled, "spatial": spatial}

`image` is float [B, H, W, 3], RGB in [-1, 1]; ``pooled`` is [B, D] and ``spatial`` [B, h, w, E],
both float32 (D and E may differ; further keys are free). A net that is published with an embedding
layer of its own also returns ``embedding`` [B, d], float32, not normalised. Parameters stay float32
whatever `dtype` is. Dropout draws from the rng ``dropout``; batch statistics live in the collection
``batch_stats``. A backbone knows no task and no loss.

A config names a backbone by a short name of `BUILT_IN` or by ``package.module:Class`` or
``folder/file.py:Class``; `check_backbone` tells whether it keeps the contract, without computing
anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facebench import plugins
from facebench.errors import FacebenchError, UsageError, nearest

if TYPE_CHECKING:  # The table of names below is read without starting JAX.
    import jax
    from flax import linen as nn

BUILT_IN = {
    "convnet": "facebench.models.convnet:ConvNet",
    "face_vit": "facebench.models.face_vit:FaceViT",
    "inception_resnet": "facebench.models.inception_resnet:InceptionResNet",
    "ir": "facebench.models.ir:IR",
    "iresnet": "facebench.models.iresnet:IResNet",
    "mobilefacenet": "facebench.models.mobilefacenet:MobileFaceNet",
    "swin": "facebench.models.swin:Swin",
    "transfer": "facebench.models.transfer:TransFER",
    "vit": "facebench.models.vit:ViT",
    "vtff": "facebench.models.vtff:VTFF",
}

#: What a head may read of a backbone, by the name a config gives: see `features`.
FEATURES = ("pooled", "spatial", "both", "embedding")


def variant(family: str, name: Any, table: Mapping[str, Any]) -> Any:
    """What a family's table says of a size, by its name.

    Raises:
        UsageError: there is no such size; the nearest names are given.
    """
    if str(name) not in table:
        raise UsageError(f"{family}: variant is {name!r}: {nearest(str(name), table)}")
    return table[str(name)]


def build(name: str, kwargs: Mapping[str, Any] | None = None, root: Path | None = None) -> Any:
    """The backbone that a config names.

    Args:
        name: a name of `BUILT_IN`, ``package.module:Class`` or ``folder/file.py:Class``.
        kwargs: its fields.
        root: the folder that paths of files start from.

    Returns:
        An unbound Flax module.

    Raises:
        UsageError: an unknown name or field; the nearest are given.
    """
    return plugins.build(plugins.resolve(name, "model", BUILT_IN, root), "model", kwargs or {})


def shapes(module: nn.Module, size: int, batch: int = 2) -> tuple[Any, Any]:
    """Shapes of a module's outputs and variables on square images; nothing is computed.

    Args:
        module: a backbone, or a backbone with a task's head.
        size: side of the image in pixels.
        batch: images.

    Returns:
        (outputs, variables), trees of ``jax.ShapeDtypeStruct``, of a call with ``train=True``.
    """
    import jax
    import jax.numpy as jnp

    def init(key: Any, image: Any) -> Any:
        return module.init_with_output({"params": key, "dropout": key}, image, train=True)

    image = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    return jax.eval_shape(init, jax.random.key(0), image)


def check_backbone(module: nn.Module, size: int) -> dict[str, Any]:
    """Checks that a backbone keeps the contract of this page, by shapes alone.

    Args:
        module: the backbone.
        size: side of the crop in pixels.

    Returns:
        Its outputs as ``jax.ShapeDtypeStruct``, for a batch of 2.

    Raises:
        FacebenchError: it takes no ``train``, returns no dict, or ``pooled`` or ``spatial`` is
            missing, or one of these or ``embedding`` has another shape or dtype than the
            contract's.
    """
    import jax
    import jax.numpy as jnp

    who = f"backbone {type(module).__name__} on {size} px"
    batch = 2
    try:
        outputs, variables = shapes(module, size, batch)
    except FacebenchError:
        raise
    except Exception as error:
        first_line = next(iter(str(error).splitlines()), "")
        raise FacebenchError(
            f"{who}: {type(error).__name__} when called as module(image, train=True) with image "
            f"[{batch}, {size}, {size}, 3]: {first_line}"
        ) from error
    if not isinstance(outputs, Mapping):
        raise FacebenchError(
            f"{who} returns a {type(outputs).__name__}, expected a dict with 'pooled' [B, D] and "
            "'spatial' [B, h, w, D]"
        )
    forms = [("pooled", 2, "[B, D]"), ("spatial", 4, "[B, h, w, D]")]
    if "embedding" in outputs:
        forms.append(("embedding", 2, "[B, d]"))
    for key, rank, form in forms:
        if key not in outputs:
            raise FacebenchError(
                f"{who} returns no {key!r}, only {sorted(outputs)}; add {key!r} {form}"
            )
        shape, dtype = tuple(outputs[key].shape), outputs[key].dtype
        if len(shape) != rank or shape[0] != batch:
            raise FacebenchError(
                f"{who}: {key!r} has shape {list(shape)} for a batch of {batch}, expected {form}"
            )
        if dtype != jnp.float32:
            raise FacebenchError(
                f"{who}: {key!r} is {dtype}, expected float32 (compute in another dtype inside, "
                "and cast what is returned)"
            )
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype != jnp.float32:
            raise FacebenchError(
                f"{who}: variable {jax.tree_util.keystr(path)} is {leaf.dtype}, expected float32 "
                "(set dtype, not param_dtype)"
            )
    return dict(outputs)


def parameter_count(parameters: Any) -> int:
    """How many numbers a tree of parameters (arrays or their shapes) holds."""
    import jax

    return sum(leaf.size for leaf in jax.tree.leaves(parameters))


def features(outputs: Mapping[str, jax.Array], which: str) -> jax.Array:
    """What a head reads of a backbone's outputs, as one vector per example.

    Args:
        outputs: the backbone's outputs.
        which: ``pooled``; ``spatial``: the map flattened in row-major order, which keeps where
            things are; ``both``, in this order; or ``embedding``, of a net that has one.

    Returns:
        [B, F] float32.

    Raises:
        UsageError: `which` is none of these, or the backbone has no embedding.
    """
    import jax.numpy as jnp

    if which not in FEATURES:
        raise UsageError(f"features is {which!r}: {nearest(which, FEATURES)}")
    if which == "embedding":
        if "embedding" not in outputs:
            raise UsageError(
                f"features is 'embedding', but the backbone returns only {sorted(outputs)}; "
                "choose 'pooled', 'spatial' or 'both'"
            )
        return outputs["embedding"].astype(jnp.float32)
    pooled, spatial = outputs["pooled"], outputs["spatial"]
    flat = spatial.reshape(spatial.shape[0], -1)
    chosen = {"pooled": [pooled], "spatial": [flat], "both": [pooled, flat]}[which]
    return jnp.concatenate(chosen, axis=1).astype(jnp.float32)
