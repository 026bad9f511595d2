"""Recognition: embeddings whose cosine says who is who, learnt by a margin softmax over identities.

The head is ArcFace's (Deng et al., CVPR 2019, section 3.1): a linear layer without bias, a
normalisation without scale, then cosines with one learnt centre (or several) per training identity,
which are thrown away after training. With ``loss="triplet"`` there are no centres: the embeddings
of a batch are compared with one another (FaceNet). `facebench.tasks.margins` names the losses.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from facebench import models
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.losses import margin as losses
from facebench.losses import partial_fc, quality
from facebench.losses.sharded import unit
from facebench.tasks import Spec, Task, margin_stats, margins

Array = jax.Array

NORMS = ("batch", "layer", "none")
LOSSES = ("margin", "triplet")

#: What the embedding layer reads; `embedding` is a backbone's own, and there is no such layer.
FEATURES = tuple(dict.fromkeys((*models.FEATURES, "embedding")))


class CosineClassifier(nn.Module):
    """Cosines between embeddings and one centre per class.

    The centres are ``kernel`` [d, C] float32; a partition rule may shard C. The product is computed
    in full float32 on every device: in TF32 or bfloat16 the margin would be lost near cos = 1.

    Attributes:
        classes: number of classes C.
        centres: per class, K; then ``kernel`` is [d, C K], and the best one's cosine is given.
    """

    classes: int
    centres: int = 1

    @nn.compact
    def __call__(self, embedding: Array) -> Array:
        """[B, C] float32 cosines of embedding [B, d]."""
        shape = (embedding.shape[-1], self.classes * self.centres)
        kernel = self.param("kernel", nn.initializers.normal(0.01), shape)
        precision = jax.lax.Precision.HIGHEST
        cosine = jnp.matmul(unit(embedding), unit(kernel, axis=0), precision=precision)
        return losses.best_centre(cosine, self.centres) if self.centres > 1 else cosine


class RecognitionNet(nn.Module):
    """A backbone, an embedding layer and, for training, a classifier.

    Attributes:
        backbone: gives the features.
        classes: number of training classes C.
        dim: size of the embedding d.
        features: what the embedding layer reads, see `facebench.models.features`; ``embedding``:
            the backbone's own is taken as it is, without layer, dropout and norm.
        norm: what follows it: ``batch``, ``layer`` or ``none``; a bias and no scale is learnt.
        dropout: rate of the dropout on the features, while training.
        axis_name: the mapped axis to average batch statistics over.
        margin: the margin that is trained with, or ``triplet``.
        options: of the margin, see `facebench.tasks.margins.options`.
    """

    backbone: nn.Module
    classes: int
    dim: int = 128
    features: str = "spatial"
    norm: str = "batch"
    dropout: float = 0.0
    axis_name: str | None = None
    margin: str = "arcface"
    options: Any = dataclasses.field(default_factory=dict)

    @nn.compact
    def __call__(
        self,
        image: Array,
        *,
        train: bool,
        label: Array | None = None,
        mask: Array | None = None,
    ) -> dict[str, Array]:
        """Embeddings, and while training cosines, of images [B, S, S, 3] in [-1, 1].

        Args:
            image: the images.
            train: whether batch statistics are made, dropout is on and cosines are given.
            label: [B] classes, which CurricularFace's statistics need while training.
            mask: [B], 1 for examples that count in AdaFace's and CurricularFace's statistics;
                default all.

        Returns:
            ``embedding`` [B, d] float32, not normalised; with `train` also ``cosine`` [B, C] (under
            ``softmax_with_bias`` inner products; under `facebench.tasks.margins.cut` the
            ``centres`` instead) and what else the margin's loss reads.
        """
        x = self._embed(self.backbone(image, train=train), train)
        outputs = {"embedding": x}
        first = self.is_initializing()
        if not (train or first):  # What is made at init in either mode is computed for training.
            return outputs
        made: dict[str, Array] = {}
        if self.margin == "softmax_with_bias":
            made["cosine"] = nn.Dense(
                self.classes,
                precision=jax.lax.Precision.HIGHEST,
                kernel_init=nn.initializers.normal(0.01),
                name="classifier",
            )(x.astype(jnp.float32))
        elif margins.cut(self.options, self.classes):
            sample = self.options["sample_rate"], self.options["sample_groups"]
            made |= partial_fc.Centres(self.classes, *sample, name="classifier")(x.shape[-1])
        elif self.margin != "triplet":
            centres = self.options.get("centres", 1)
            made["cosine"] = CosineClassifier(self.classes, centres, name="classifier")(x)
        made |= self._learnt() | self._statistics(x, made.get("cosine"), label, mask)
        if not train:
            return outputs
        if self.margin.startswith("elastic"):
            made["normal"] = jax.random.normal(self.make_rng("dropout"), (len(x),))
        if self.options.get("mining") == "random":
            made["seed"] = jax.random.bits(self.make_rng("dropout"), (len(x),), jnp.uint32)
        return outputs | made

    def _embed(self, features: Mapping[str, Array], train: bool) -> Array:
        """[B, d] from what the backbone returned."""
        if self.features == "embedding":
            if "embedding" not in features:
                raise FacebenchError(
                    f"features is 'embedding', but backbone {type(self.backbone).__name__} returns "
                    f"{sorted(features)} only; use one of {', '.join(FEATURES[:3])}"
                )
            return features["embedding"].astype(jnp.float32)
        x = models.features(features, self.features)
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
        return x

    def _learnt(self) -> dict[str, Array]:
        """Numbers that a loss learns: NormFace's scale (at least .01), UniFace's bias."""
        if self.options.get("learn_s"):
            scale = self.param("scale", nn.initializers.constant(self.options["s"]), ())
            return {"scale": jnp.maximum(scale, 0.01)}
        if self.margin == "uniface":
            start = nn.initializers.constant(math.log(10 * self.classes))
            return {"bias": self.param("bias", start, ())}
        return {}

    def _statistics(
        self, x: Array, cosine: Any, label: Array | None, mask: Array | None
    ) -> dict[str, Array]:
        """What a loss knows of earlier batches, with this one blended in."""
        if self.margin == "sphereface":
            count = self.variable(margin_stats.STATS, "step", lambda: jnp.zeros((), jnp.int32))
            return {"step": count.value}
        alpha = self.options.get("t_alpha")
        if self.margin == "adaface":
            start = (quality.FIRST_MEAN, quality.FIRST_STD)
            running = margin_stats.Running(*start, alpha, self.axis_name, name="running")
            mean, std = running(quality.adaface_norm(x), mask)
            return {"norm_mean": mean, "norm_std": std}
        if self.margin == "curricularface":
            if not self.is_initializing() and label is None:
                raise FacebenchError("margin 'curricularface' trains on labels; none were given")
            own = jnp.zeros(len(x)) if label is None else losses.own_cosine(cosine, label)
            running = margin_stats.Running(0.0, 0.0, alpha, self.axis_name, name="running")
            return {"t": running(own, mask)[0]}
        return {}


class Recognition(Task):
    """Embeddings learnt by a margin softmax over the training identities, or by triplets.

    Batches hold ``label`` [B] int32 in 0..C-1; predictions are ``embedding`` [B, d], of length 1.
    """

    fields = ("label",)

    def __init__(
        self,
        spec: Spec,
        dim: int | None = None,
        features: str = "spatial",
        norm: str | None = None,
        margin: str | None = None,
        m: Any = None,
        s: float | None = None,
        guard: str | None = None,
        dropout: float | None = None,
        smoothing: float | None = None,
        loss: str = "margin",
        gradient: str | None = None,
        interclass_filtering_threshold: float | None = None,
        centres: int | None = None,
        learn_s: bool | None = None,
        h: float | None = None,
        t_alpha: float | None = None,
        norm_range: tuple[float, float] | None = None,
        margin_range: tuple[float, float] | None = None,
        lambda_g: float | None = None,
        sigma: float | None = None,
        negative_weight: float | None = None,
        mining: str | None = None,
        distance: str | None = None,
        sample_rate: float | None = None,
        sample_groups: int | None = None,
    ) -> None:
        """Checks and keeps the configuration.

        Of the keywords after `norm`, each loss and margin reads its own, whose defaults stand in
        `facebench.tasks.margins.OPTIONS`; one that is given and not read is an error.

        Args:
            spec: `size` and `classes` (at least 2) are needed.
            dim: size of the embedding; 128 by default.
            features: ``spatial``, ``pooled`` or ``both``, see `facebench.models.features`; or
                ``embedding``, that of the backbone itself, to which nothing is added.
            norm: ``batch`` (by default), ``layer`` or ``none``.
            margin: ``arcface`` by default; the others are in `facebench.tasks.margins.OPTIONS`.
            m: the margin; the paper's by default. Three numbers for ``combined``.
            s: the scale of the logits. The papers' 64 suits many classes and long training; a few
                dozen identities learn faster with 16 to 30.
            guard: where an angle is added, see `facebench.losses.margin.add_angle`.
            dropout: rate of the dropout on the features; 0 by default.
            smoothing: label smoothing.
            loss: ``margin``, or ``triplet``, whose batches should hold several images of each
                person (``config.data.images_per_unit``).
            gradient: ``true``, or ``straight_through`` as arcface_torch's.
            interclass_filtering_threshold: cosines of other classes above it count as 0.
            centres: per class (sub-centre ArcFace).
            learn_s: whether NormFace's scale is learnt, from `s`.
            h: AdaFace's concentration.
            t_alpha: weight of a batch in AdaFace's or CurricularFace's running statistics.
            norm_range: of MagFace.
            margin_range: of MagFace, radians.
            lambda_g: weight of MagFace's regulariser.
            sigma: spread of ElasticFace's margins.
            negative_weight: of the other classes in UniFace.
            mining: of triplets, see `facebench.losses.triplet`.
            distance: of triplets.
            sample_rate: share of the classes that take part in a step (Partial FC), in (0, 1]; 1 by
                default: all of them. Below 1, ``accuracy`` is over the drawn ones.
            sample_groups: in how many equal parts classes are drawn, see
                `facebench.losses.partial_fc.sample`; a multiple of the number of devices.

        Raises:
            UsageError: an unknown name, a value out of its range, or a keyword that is not read.
            FacebenchError: the data has fewer than 2 classes.
        """
        super().__init__(spec)
        spec.require("recognition", size=1, classes=2)
        value: Any
        for field, value, names in (
            ("features", features, FEATURES),
            ("norm", norm or "batch", NORMS),
            ("loss", loss, LOSSES),
        ):
            if value not in names:
                raise UsageError(f"{field} is {value!r}: {nearest(str(value), names)}")
        if features == "embedding":
            for field, value in (("dim", dim), ("norm", norm), ("dropout", dropout)):
                if value is not None:
                    raise UsageError(
                        f"features 'embedding' takes the backbone's own and has no {field}, found "
                        f"{field}={value!r}"
                    )
        given = {
            **{"m": m, "s": s, "guard": guard, "smoothing": smoothing, "gradient": gradient},
            **{"interclass_filtering_threshold": interclass_filtering_threshold},
            **{"centres": centres, "learn_s": learn_s, "h": h, "t_alpha": t_alpha},
            **{"norm_range": norm_range, "margin_range": margin_range, "lambda_g": lambda_g},
            **{"sigma": sigma, "negative_weight": negative_weight},
            **{"mining": mining, "distance": distance},
            **{"sample_rate": sample_rate, "sample_groups": sample_groups},
        }
        if loss == "triplet":
            given["margin"] = margin
        self.margin = "triplet" if loss == "triplet" else (margin or "arcface")
        self.options = margins.options(self.margin, given)
        margins.check_sample(self.options, spec.classes, spec.axis_name)
        self.dim = 128 if dim is None else dim
        self.features = features
        self.norm = norm or "batch"
        self.dropout = dropout or 0.0
        self.module_reads = margins.reads(self.margin)

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
            margin=self.margin,
            options=self.options,
        )

    def loss(
        self, outputs: Mapping[str, Array], batch: Mapping[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        """The loss per example; logs ``accuracy`` over classes, without the margin.

        Triplets have no classes and log ``active``: 1 for an anchor that costs anything.
        """
        label, axis = batch["label"], self.spec.axis_name
        mask = batch["mask"] if "mask" in batch else jnp.ones(len(label), jnp.float32)
        if self.margin == "triplet":
            x, seed = unit(outputs["embedding"]), outputs.get("seed")
            loss = margins.triplet_loss(self.options, x, label, mask, seed, axis)
            return loss, {"active": (loss > 0).astype(jnp.float32)}
        if margins.cut(self.options, self.spec.classes):
            loss, correct = margins.cut_loss(
                self.margin, self.options, outputs, label, mask, axis, self.spec.classes
            )
            return loss, {"accuracy": correct.astype(jnp.float32)}
        cosine = outputs["cosine"]
        loss = margins.margin_loss(self.margin, self.options, outputs, label, mask, axis)
        correct = jnp.argmax(cosine, axis=1).astype(label.dtype) == label
        return loss, {"accuracy": correct.astype(jnp.float32)}

    def predict(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> dict[str, Array]:
        """``embedding`` [B, d] float32 of length 1, and its length before that, ``norm`` [B].

        Lengths are for protocols that add embeddings (a mirror image's, a template's faces) before
        they compare; nothing else reads them, and they are not stored.
        """
        x = outputs["embedding"].astype(jnp.float32)
        return {"embedding": unit(x), "norm": jnp.linalg.norm(x, axis=-1)}

    def after_step(self, state: Any) -> Any:
        """Blends the statistics of the whole batch into the running ones."""
        stats = state.collections.get(margin_stats.STATS)
        if not stats:
            return state
        after = margin_stats.fold(stats, self.margin, self.options.get("t_alpha", 0.0), state.step)
        return state.replace(collections={**state.collections, margin_stats.STATS: after})
