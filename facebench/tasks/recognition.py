"""Recognition: embeddings whose cosine says who is who, learnt by a margin softmax over identities.

The head is ArcFace's (Deng et al., CVPR 2019, section 3.1): a linear layer without bias, a
normalisation without scale, then cosines with one learnt centre per training identity, which are
thrown away after training.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from facebench import models
from facebench.errors import UsageError, nearest
from facebench.losses import margin as losses
from facebench.tasks import Spec, Task

Array = jax.Array

NORMS = ("batch", "layer", "none")


def normalise(x: Array, axis: int = -1) -> Array:
    """Unit vectors x / |x|, in float32; one shorter than 1e-6 is divided by 1e-6 instead.

    Its gradient is finite everywhere, at the zero vector too (x / jnp.linalg.norm(x) is NaN there).
    """
    x = x.astype(jnp.float32)
    squared = jnp.square(x).sum(axis=axis, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squared, 1e-12))


class CosineClassifier(nn.Module):
    """Cosines between embeddings and one centre per class.

    The centres are ``kernel`` [d, C] float32; a partition rule may shard C. The product is computed
    in full float32 on every device: in TF32 or bfloat16 the margin would be lost near cos = 1.

    Attributes:
        classes: number of classes C.
    """

    classes: int

    @nn.compact
    def __call__(self, embedding: Array) -> Array:
        """[B, C] float32 cosines of embedding [B, d]."""
        shape = (embedding.shape[-1], self.classes)
        kernel = self.param("kernel", nn.initializers.normal(0.01), shape)
        unit = normalise(embedding)
        return jnp.matmul(unit, normalise(kernel, axis=0), precision=jax.lax.Precision.HIGHEST)


class RecognitionNet(nn.Module):
    """A backbone, an embedding layer and, for training, a cosine classifier.

    Attributes:
        backbone: gives the features.
        classes: number of training classes C.
        dim: size of the embedding d.
        features: what the embedding layer reads, see `facebench.models.features`.
        norm: what follows it: ``batch``, ``layer`` or ``none``; a bias and no scale is learnt.
        dropout: rate of the dropout on the features, while training.
        axis_name: the mapped axis to average batch statistics over.
    """

    backbone: nn.Module
    classes: int
    dim: int = 128
    features: str = "spatial"
    norm: str = "batch"
    dropout: float = 0.0
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> dict[str, Array]:
        """Embeddings, and while training cosines, of images [B, S, S, 3] in [-1, 1].

        Returns:
            ``embedding`` [B, d] float32, not normalised; with `train` also ``cosine`` [B, C].
        """
        x = models.features(self.backbone(image, train=train), self.features)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = nn.Dense(self.dim, use_bias=False, name="embedding")(x)
        if self.norm == "batch":
            x = nn.BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                epsilon=1e-5,
                use_scale=False,
                axis_name=self.axis_name,
                name="embedding_norm",
            )(x)
        elif self.norm == "layer":
            x = nn.LayerNorm(epsilon=1e-6, use_scale=False, name="embedding_norm")(x)
        outputs = {"embedding": x}
        classifier = CosineClassifier(self.classes, name="classifier")
        if train or self.is_initializing():  # Made at init in either mode, computed for training.
            cosine = classifier(x)
            if train:
                outputs["cosine"] = cosine
        return outputs


class Recognition(Task):
    """Embeddings learnt by a margin softmax over the training identities.

    Batches hold ``label`` [B] int32 in 0..C-1; predictions are ``embedding`` [B, d], of length 1.
    """

    fields = ("label",)

    def __init__(
        self,
        spec: Spec,
        dim: int = 128,
        features: str = "spatial",
        norm: str = "batch",
        margin: str = "arcface",
        m: float | None = None,
        s: float = 64.0,
        guard: str = "linear",
        dropout: float = 0.0,
        smoothing: float = 0.0,
    ) -> None:
        """Checks and keeps the configuration.

        Args:
            spec: `size` and `classes` (at least 2) are needed.
            dim: size of the embedding.
            features: ``spatial``, ``pooled`` or ``both``, see `facebench.models.features`.
            norm: ``batch``, ``layer`` or ``none``.
            margin: ``softmax``, ``cosface`` or ``arcface``, see `facebench.losses.margin`.
            m: the margin; the paper's by default.
            s: the scale of the logits. The papers' 64 suits many classes and long training; a few
                dozen identities learn faster with 16 to 30.
            guard: of ``arcface``.
            dropout: rate of the dropout on the features.
            smoothing: label smoothing.

        Raises:
            UsageError: an unknown name among these, a smoothing outside [0, 1), a scale that is not
                positive, or an m for ``softmax``.
            FacebenchError: the data has fewer than 2 classes.
        """
        super().__init__(spec)
        spec.require("recognition", size=1, classes=2)
        for field, value, names in (
            ("features", features, models.FEATURES),
            ("norm", norm, NORMS),
            ("margin", margin, tuple(losses.MARGINS)),
            ("guard", guard, losses.GUARDS),
        ):
            if value not in names:
                raise UsageError(f"{field} is {value!r}: {nearest(value, names)}")
        losses.check(margin, m, s, smoothing)
        self.dim = dim
        self.features = features
        self.norm = norm
        self.dropout = dropout
        self._logits = functools.partial(losses.margin_logits, margin=margin, m=m, s=s, guard=guard)
        self._smoothing = smoothing

    def module(self, backbone: nn.Module) -> RecognitionNet:
        """The backbone and the head, `RecognitionNet`."""
        return RecognitionNet(
            backbone,
            self.spec.classes,
            dim=self.dim,
            features=self.features,
            norm=self.norm,
            dropout=self.dropout,
            axis_name=self.spec.axis_name or getattr(backbone, "axis_name", None),
        )

    def loss(
        self, outputs: Mapping[str, Array], batch: Mapping[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        """Margin softmax per example; logs ``accuracy`` over classes, without the margin."""
        cosine, label = outputs["cosine"], batch["label"]
        logits = self._logits(cosine, label)
        loss = losses.cross_entropy(logits, label, self._smoothing)
        correct = jnp.argmax(cosine, axis=1).astype(label.dtype) == label
        return loss, {"accuracy": correct.astype(jnp.float32)}

    def predict(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> dict[str, Array]:
        """``embedding`` [B, d] float32 of length 1."""
        return {"embedding": normalise(outputs["embedding"])}
