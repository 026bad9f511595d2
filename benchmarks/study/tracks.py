# ruff: noqa: D102 (`Track` says what the methods of every track give)
"""Six tracks on one world: their labels, floors, linear probes, networks and upper bounds.

Everything is scored by `facebench.metrics.score`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from facebench import metrics, synth
from facebench.probes.closed_form import MeanShape
from facebench.tasks import OCCURS, Spec, scores

from .learn import Network, Pixels, Predictions, logistic, probabilities, ridge
from .worlds import Faces

#: The action units of the study: those that emotions or extras show often enough to be counted.
AUS = (1, 2, 4, 5, 6, 7, 9, 12, 15, 17, 25, 26)
COLUMNS = [synth.ACTION_UNITS.index(number) for number in AUS]
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)

MODEL = {"widths": (32, 64, 128), "blocks": (0, 1, 1), "stem_stride": 4}
RECIPE = {"lr": 3e-3, "warmup": 30, "weight_decay": 0.01, "ema": 0.95}

Reader = Callable[[np.ndarray], Predictions]


class Track:
    """One task on generated faces.

    Attributes:
        name: as the judge and `facebench.tasks` call it.
        metrics: what is reported; the first one selects the penalty of the linear probe.
        floor_name: what the floor is.
        linear_name: what the linear probe is.
        aligned: whether learners see pictures aligned by five true points, or whole ones.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    floor_name: ClassVar[str]
    linear_name: ClassVar[str]
    aligned: ClassVar[bool] = True
    model: ClassVar[dict[str, Any]] = MODEL
    recipe: ClassVar[dict[str, Any]] = RECIPE
    kwargs: ClassVar[dict[str, Any]] = {}

    def spec(self, train: Faces) -> Spec:
        """What the faces tell the task."""
        raise NotImplementedError

    def fields(self, faces: Faces) -> dict[str, np.ndarray]:
        """What the task's loss reads."""
        raise NotImplementedError

    def targets(self, faces: Faces) -> dict[str, np.ndarray]:
        """What the judge reads."""
        raise NotImplementedError

    def judged(self, faces: Faces, outputs: Predictions) -> Predictions:
        """What the judge reads, from what a learner predicted."""
        del faces
        return outputs

    def floor(self, train: Faces, test: Faces, seed: int) -> Predictions:
        """Predictions that do not look at the picture."""
        raise NotImplementedError

    def probe(self, x: np.ndarray, train: Faces, penalty: float) -> Callable[..., Predictions]:
        """A linear map of the features x [n, d] of the training faces."""
        raise NotImplementedError

    def known(self, faces: Faces) -> Predictions:
        """What a reader of the parameters that a picture was drawn from would predict."""
        raise NotImplementedError

    # -- the same for all ----------------------------------------------------------------------

    def score(self, faces: Faces, outputs: Predictions, **targets: np.ndarray) -> dict[str, Any]:
        """The judge's numbers."""
        return metrics.score(self.name, self.judged(faces, outputs), self.targets(faces) | targets)

    def pictures(self, faces: Faces) -> np.ndarray:
        """uint8 [n, S, S, 3], what learners see."""
        return faces.aligned if self.aligned else faces.image

    def read(self, reader: Reader, faces: Faces) -> Predictions:
        """What a learner says of faces."""
        return reader(self.pictures(faces))

    def linear(self, train: Faces) -> Reader:
        """The linear probe, its penalty chosen on a fifth of the training people."""
        people = train.people()
        held = people >= np.ceil(0.8 * (people.max() + 1))
        part, dev = train.only(~held), train.only(held)
        better = metrics.metric_info(self.name, self.metrics[0])["higher_is_better"]

        pixels = Pixels(self.pictures(part))
        seen, unseen = (pixels(self.pictures(faces)) for faces in (part, dev))

        def on_dev(penalty: float) -> float:
            outputs = self.probe(seen, part, penalty)(unseen)
            value = self.score(dev, outputs)[self.metrics[0]]
            return -np.inf if value is None else value if better else -value

        best = max(PENALTIES, key=on_dev)
        pixels = Pixels(self.pictures(train))
        fitted = self.probe(pixels(self.pictures(train)), train, best)
        return lambda image: fitted(pixels(image))

    def network(self, train: Faces, steps: int, batch_size: int) -> Network:
        """The small network for faces like these, compiled."""
        return Network(
            self.name, self.spec(train), self.kwargs, self.model, self.recipe, steps, batch_size
        )

    def arrays(self, train: Faces) -> dict[str, np.ndarray]:
        """What the network is trained on."""
        return {"image": self.pictures(train), **self.fields(train)}


class Recognition(Track):
    """Who is who, among people that were not trained on."""

    name = "recognition"
    metrics = ("rank@1", "eer")
    floor_name = "random embeddings"
    linear_name = "linear discriminants"
    kwargs: ClassVar = {"margin": "cosface", "m": 0.2, "s": 16.0}

    def spec(self, train: Faces) -> Spec:
        return Spec(train.image.shape[1], classes=len(np.unique(train.identity)))

    def fields(self, faces: Faces) -> dict[str, np.ndarray]:
        return {"label": faces.people()}

    def _split(self, faces: Faces) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All pairs of pictures; the first picture of each person; the others."""
        pairs = np.stack(np.triu_indices(len(faces), 1), axis=1)
        gallery = np.unique(faces.identity, return_index=True)[1]
        return pairs, gallery, np.setdiff1d(np.arange(len(faces)), gallery)

    def targets(self, faces: Faces) -> dict[str, np.ndarray]:
        pairs, gallery, probe = self._split(faces)
        person = faces.identity
        return {
            "same": person[pairs[:, 0]] == person[pairs[:, 1]],
            "probe_identity": person[probe],
            "gallery_identity": person[gallery],
        }

    def judged(self, faces: Faces, outputs: Predictions) -> Predictions:
        pairs, gallery, probe = self._split(faces)
        embedding = outputs["embedding"]
        return {
            "score": scores.pair_scores(embedding, pairs),
            "similarity": scores.similarity(embedding, probe, gallery),
        }

    def floor(self, train: Faces, test: Faces, seed: int) -> Predictions:
        return {"embedding": np.random.default_rng(seed).normal(size=(len(test), 128))}

    def probe(self, x: np.ndarray, train: Faces, penalty: float) -> Callable[..., Predictions]:
        person, mean = train.people(), x.mean(axis=0)
        count = np.bincount(person)
        centre = np.stack([np.bincount(person, column) for column in x.T], axis=1) / count[:, None]
        within = x - centre[person]
        values, vectors = np.linalg.eigh(within.T @ within / len(x))
        whiten = vectors / np.sqrt(values + penalty)
        return lambda features: {"embedding": (features - mean) @ whiten}

    def known(self, faces: Faces) -> Predictions:
        vector = faces.identity_vector
        return {"embedding": vector - vector.mean(axis=0)}


class Expression(Track):
    """Seven or eight expressions."""

    name = "expression"
    metrics = ("accuracy", "macro_f1")
    floor_name = "most frequent class"
    linear_name = "logistic"
    kwargs: ClassVar = {"features": "spatial"}
    classes = len(synth.EXPRESSIONS)

    def spec(self, train: Faces) -> Spec:
        return Spec(train.image.shape[1], classes=self.classes)

    def fields(self, faces: Faces) -> dict[str, np.ndarray]:
        return {"expression": faces.expression}

    def targets(self, faces: Faces) -> dict[str, np.ndarray]:
        return {"label": faces.expression}

    def floor(self, train: Faces, test: Faces, seed: int) -> Predictions:
        share = np.bincount(train.expression, minlength=self.classes) / len(train)
        return {"probability": np.tile(share, (len(test), 1))}

    def probe(self, x: np.ndarray, train: Faces, penalty: float) -> Callable[..., Predictions]:
        weights = logistic(x, np.eye(self.classes)[train.expression], penalty, True)
        return lambda features: {"probability": probabilities(features @ weights, True)}

    def known(self, faces: Faces) -> Predictions:
        return {"probability": np.eye(self.classes)[faces.shown]}

    def from_actions(self, train: Faces, test: Faces) -> Predictions:
        """A logistic regression on the true intensities of all action units."""
        x, new = (np.concatenate([f.au, np.ones((len(f), 1))], axis=1) for f in (train, test))
        return self.probe(x.astype(float), train, 1e-4)(new.astype(float))


class ActionUnits(Track):
    """Which of `AUS` are at FACS grade B or more."""

    name = "action_units"
    metrics = ("f1", "auc")
    floor_name = "all there"
    linear_name = "logistic"
    kwargs: ClassVar = {"au": AUS}

    def spec(self, train: Faces) -> Spec:
        return Spec(train.image.shape[1], action_units=synth.ACTION_UNITS)

    def fields(self, faces: Faces) -> dict[str, np.ndarray]:
        return {"au": faces.au}

    def targets(self, faces: Faces) -> dict[str, np.ndarray]:
        return {"label": (faces.au[:, COLUMNS] >= np.float32(OCCURS)).astype(np.int8)}

    def floor(self, train: Faces, test: Faces, seed: int) -> Predictions:
        return {"probability": np.ones((len(test), len(AUS)))}

    def probe(self, x: np.ndarray, train: Faces, penalty: float) -> Callable[..., Predictions]:
        weights = logistic(x, self.targets(train)["label"].astype(float), penalty, False)
        return lambda features: {"probability": probabilities(features @ weights, False)}

    def known(self, faces: Faces) -> Predictions:
        return {"probability": self.targets(faces)["label"].astype(float)}


class ActionUnitIntensity(Track):
    """How strong each of `AUS` is."""

    name = "action_unit_intensity"
    metrics = ("icc_3_1", "mae")
    floor_name = "mean intensity"
    linear_name = "ridge"
    kwargs: ClassVar = {"au": AUS}

    def spec(self, train: Faces) -> Spec:
        return Spec(train.image.shape[1], action_units=synth.ACTION_UNITS)

    def fields(self, faces: Faces) -> dict[str, np.ndarray]:
        return {"au": faces.au}

    def targets(self, faces: Faces) -> dict[str, np.ndarray]:
        return {"intensity": faces.au[:, COLUMNS]}

    def floor(self, train: Faces, test: Faces, seed: int) -> Predictions:
        return {"intensity": np.tile(train.au[:, COLUMNS].mean(axis=0), (len(test), 1))}

    def probe(self, x: np.ndarray, train: Faces, penalty: float) -> Callable[..., Predictions]:
        weights = ridge(x, train.au[:, COLUMNS].astype(float), penalty)
        return lambda features: {"intensity": np.clip(features @ weights, 0, 1)}

    def known(self, faces: Faces) -> Predictions:
        return self.targets(faces)


class Landmarks(Track):
    """68 points, all of them: hidden ones have a place too."""

    name = "landmarks"
    metrics = ("nme", "fr@10")
    floor_name = "mean shape"
    aligned = False
    linear_name = "ridge"

    def spec(self, train: Faces) -> Spec:
        return Spec(train.image.shape[1], points=train.points.shape[1])

    def fields(self, faces: Faces) -> dict[str, np.ndarray]:
        return {"points": faces.points, "visible": np.ones(faces.points.shape[:2], np.float32)}

    def targets(self, faces: Faces) -> dict[str, np.ndarray]:
        return {"points": faces.points}

    def floor(self, train: Faces, test: Faces, seed: int) -> Predictions:
        probe = MeanShape()
        probe.fit([{"points": train.points}])
        identity = np.tile(np.eye(2, 3), (len(test), 1, 1))
        return probe.predict({"image": test.image, "to_image": identity})

    def probe(self, x: np.ndarray, train: Faces, penalty: float) -> Callable[..., Predictions]:
        shape = train.points.shape[1:]
        weights = ridge(x, train.points.reshape(len(train), -1).astype(float), penalty)
        return lambda features: {"points": (features @ weights).reshape(-1, *shape)}

    def known(self, faces: Faces) -> Predictions:
        return self.targets(faces)


class Parsing(Track):
    """The eleven classes of the parse mask."""

    name = "parsing"
    metrics = ("f1", "miou")
    floor_name = "most frequent class of each pixel"
    aligned = False
    linear_name = "ridge per pixel"
    model: ClassVar = {"widths": (16, 32, 64), "blocks": (0, 1, 1), "stem_stride": 2}
    kwargs: ClassVar = {"width": 32}
    classes = len(synth.PARSE)

    def spec(self, train: Faces) -> Spec:
        return Spec(train.image.shape[1], classes=self.classes)

    def fields(self, faces: Faces) -> dict[str, np.ndarray]:
        return {"parse": faces.parse}

    def targets(self, faces: Faces) -> dict[str, np.ndarray]:
        return {"parse": faces.parse}

    def floor(self, train: Faces, test: Faces, seed: int) -> Predictions:
        count = np.stack([(train.parse == c).sum(axis=0) for c in range(self.classes)])
        return {"parse": np.tile(count.argmax(axis=0).astype(np.uint8), (len(test), 1, 1))}

    def probe(self, x: np.ndarray, train: Faces, penalty: float) -> Callable[..., Predictions]:
        flat = train.parse.reshape(len(train), -1)
        weights = [
            ridge(x, (flat == c).astype(float), penalty).astype(np.float32)
            for c in range(self.classes)
        ]

        def predict(features: np.ndarray) -> Predictions:
            best = np.full((len(features), flat.shape[1]), -np.inf, np.float32)
            parse = np.zeros(best.shape, np.uint8)
            for c, w in enumerate(weights):
                value = features.astype(np.float32) @ w
                parse[value > best] = c
                best = np.maximum(best, value)
            return {"parse": parse.reshape(-1, *train.parse.shape[1:])}

        return predict

    def known(self, faces: Faces) -> Predictions:
        return self.targets(faces)


TRACKS: dict[str, Track] = {
    track.name: track
    for track in (
        Recognition(), Expression(), ActionUnits(), ActionUnitIntensity(), Landmarks(), Parsing(),
    )
}  # fmt: skip
