"""One experiment on its data: from a trial that is asked for to its predictions and their scores.

``protocol + subset -> pipeline -> task(backbone) -> the loop -> predictions -> judge -> trial``.
Predictions are written to disk first; the judge alone opens the test labels, and scores the file.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facebench import files, models, plan, plugins, probes, schemes, tasks
from facebench import protocol as protocols
from facebench.config import Config
from facebench.data import comparisons, pipeline, source, subsets, targets, transforms
from facebench.errors import FacebenchError
from facebench.leaderboard import judge, trial
from facebench.protocol import Protocol
from facebench.tasks import scores
from facebench.workspace import Workspace


class Experiment:
    """An experiment on its data: makes one trial after the other, compiling once where it can.

    Args:
        ws: the workspace.
        config: the experiment.
        protocol: the protocol that it names.

    Raises:
        FacebenchError: the data is not there, or not what the protocol was frozen on.
    """

    def __init__(self, ws: Workspace, config: Config, protocol: Protocol):
        self.ws, self.config, self.protocol = ws, config, protocol
        wanted = protocol.dataset
        if not source.prepared(ws, wanted["name"], wanted["config"], wanted["version"]):
            print(f"preparing dataset {wanted['name']}/{wanted['config']} ...", flush=True)
            source.prepare(ws, wanted["name"], wanted["config"])
        self.dataset = source.open(ws, wanted["name"], wanted["config"], wanted["version"])
        targets.check_dataset(protocol, self.dataset)
        if not ws.targets(protocol.id, protocol.public).is_file():
            targets.write(ws, protocol, self.dataset)
        if protocol.selection == "dev" and protocol.task == "recognition":
            raise FacebenchError(
                f"protocol {protocol.id}: selection is 'dev', and task 'recognition' has pairs and "
                "a gallery of the test split alone: a run cannot score dev; use 'last-step'"
            )
        if "probe" not in config.semantic:
            transforms.Augment.of(config.semantic["data"]["augment"])

    def check(self, job: plan.Job) -> None:
        """Finds what is wrong with a trial's config before anything of it is written.

        Raises:
            UsageError: a name, keyword or batch size.
            FacebenchError: the subset, or a backbone that does not keep the contract.
        """
        subset, _ = subsets.of_protocol(self.protocol, self.dataset, job.value, job.seed)
        if "probe" in self.config.semantic:
            self._probe()
            if len(subset):
                self._task(self._spec(subset, None))
            if "model" in self.config.semantic:
                _ = self._frozen
            return
        self._programs(self._spec(subset, self.partition.axis_name), self._steps(subset))
        _ = self._stored

    # -- a trial -------------------------------------------------------------------------------

    def trial(self, job: plan.Job, title: str = "") -> dict[str, Any]:
        """Makes one trial: predictions on disk, then their scores, then ``trial.json``.

        Raises:
            Interrupted: a signal; the state was saved.
            FacebenchError: data, disk or checkpoint faults.
        """
        (job.folder / "failure.txt").unlink(missing_ok=True)
        subset, _ = subsets.of_protocol(self.protocol, self.dataset, job.value, job.seed)
        make = self._fitted if "probe" in self.config.semantic else self._trained
        outputs, facts = make(job, subset, title)
        stored = metrics = None
        if outputs is not None:
            stored = protocols.quantise(self.protocol, self._comparisons(outputs, subset))
            files.write_npz(job.folder / "predictions.npz", stored)
            targets_of_test = judge.load_targets(self.ws, self.protocol)
            path = job.folder / "predictions.npz"
            metrics = judge.score_file(self.protocol, path, targets_of_test)
        value = trial.compose(
            self.protocol,
            self.config.semantic["entry"],
            self.config.semantic["kind"],
            {"semantic": self.config.semantic, "execution": self.config.execution},
            job.value,
            job.seed,
            stored=stored,
            metrics=metrics,
            **facts,
        )
        trial.write(job.folder, value)
        return value

    def _comparisons(
        self, outputs: Mapping[str, np.ndarray], subset: np.ndarray
    ) -> dict[str, np.ndarray]:
        """What is stored: embeddings become the scores that the protocol asks for, and vanish."""
        evaluation, test = self.protocol.evaluation, self.dataset.split("test")
        if not {"pairs", "gallery"} & evaluation.keys():
            return dict(outputs)
        embedding = outputs["embedding"]
        if "flip" in evaluation or "n1" in evaluation.get("pooling", ""):  # lengths count
            if "norm" in outputs:
                embedding = embedding * outputs["norm"][:, None]
            elif "probe" not in self.config.semantic:
                raise FacebenchError(
                    f"protocol {self.protocol.id}: evaluation.flip and pooling n1 need the lengths "
                    "of embeddings; the task must predict 'norm' beside 'embedding'"
                )
        if "flip" in evaluation:  # the second half is of the mirror images, see `_test_batches`
            plain, mirrored = np.split(embedding, 2)
            embedding = plain + mirrored
        stored = {}
        if "pairs" in evaluation:
            pairs, compared = comparisons.pairs(self.protocol, test), embedding
            if templates := comparisons.templates(self.protocol, test):
                how = evaluation.get("pooling", "n0d0")
                compared = scores.pooled(embedding, **templates, how=how)
            stored["score"] = scores.pair_scores(compared, pairs)
        if comparisons.enrolled(self.protocol):
            faces, known = np.split(embedding, [self.protocol.n])
            train = self.dataset.split("train")
            person = np.unique([train.units[i] for i in subset], return_inverse=True)[1]
            stored["similarity"] = scores.best_of_each(faces, known, person)
        elif "gallery" in evaluation:
            probe, gallery = comparisons.gallery(self.protocol, len(embedding))
            stored["similarity"] = scores.similarity(embedding, probe, gallery)
        return stored

    def _spec(self, subset: np.ndarray, axis_name: str | None) -> tasks.Spec:
        train, evaluation = self.dataset.split("train"), self.protocol.evaluation
        task = plugins.resolve(self.protocol.task, "task", tasks.BUILT_IN, self.ws.root)
        reads = task.reads(self.config.semantic["task"])
        classes = 0
        names: tuple[str, ...] = ()
        if "label" in reads:
            classes = len({train.units[i] for i in subset})
        elif "expression" in reads:
            names = tuple(subsets.classes(self.protocol, train)[0])
            classes = len(names)
        elif "parse" in reads:
            classes = len(schemes.PARSE)
        return tasks.Spec(
            size=self.protocol.preprocess["size"],
            points=source.field(train, "points", [0]).shape[1] if "points" in reads else 0,
            classes=classes,
            class_names=names,
            axis_name=axis_name,
            action_units=tuple(evaluation.get("au", ())),
            occurs=evaluation.get("threshold", tasks.OCCURS),
            identities=len({train.units[i] for i in subset}) if "identity" in reads else 0,
        )

    def _given(self, fields: Sequence[str], subset: np.ndarray) -> dict[str, np.ndarray]:
        """The labels of the subset that the protocol says how to read."""
        train, given = self.dataset.split("train"), {}
        if "expression" in fields:
            places = subsets.classes(self.protocol, train)[1]
            given["expression"] = places[source.field(train, "expression")[subset]]
        if "au" in fields:
            columns = targets.au_columns(self.protocol, train)
            given["au"] = source.field(train, "au")[subset][:, columns]
        if "positive_rate" in fields:
            occurs = self.protocol.evaluation["threshold"]
            rate = targets.positive_rate(given["au"], occurs)
            given["positive_rate"] = np.tile(rate, (len(subset), 1))
        if "identity" in fields:
            units = [train.units[i] for i in subset]
            given["identity"] = np.unique(units, return_inverse=True)[1].astype(np.int32)
        return given

    def _batches(
        self,
        subset: np.ndarray,
        job: plan.Job,
        start: int,
        size: int,
        task: tasks.Task,
        augment: Any,
    ) -> Iterator[dict[str, np.ndarray]]:
        execution, mirrored = self.config.execution, None
        if "points" in task.fields:
            mirrored = schemes.SCHEMES[task.spec.points].flip
        return pipeline.train_batches(
            self.dataset.split("train"),
            subset,
            task.fields,
            preprocess=self.protocol.preprocess,
            augment=augment,
            flip_permutation=mirrored,
            given=self._given(task.fields, subset),
            batch_size=size,
            seed=job.seed,
            start_step=start,
            threads=execution["threads"],
            workers=execution["workers"],
            images_per_unit=self.config.semantic["data"].get("images_per_unit", 0),
        )

    def _test_batches(self, size: int, subset: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        """The test splits; then, where they are compared with the subset, that; all mirrored."""
        evaluation = self.protocol.evaluation
        tested = [self.dataset.split(name) for name in self.protocol.tested]
        parts = [(split, subsets.used(self.protocol, split)) for split in tested]
        if comparisons.enrolled(self.protocol):
            parts.append((self.dataset.split("train"), subset))
        for mirrored in (False, True) if "flip" in evaluation else (False,):
            for split, rows in parts:
                with self._seen(split, rows, size) as batches:
                    for batch in batches:
                        turned = {"image": batch["image"][:, :, ::-1]} if mirrored else {}
                        yield batch | turned

    def _seen(self, split: source.Split, rows: np.ndarray, size: int) -> pipeline.Batches:
        """Samples to predict, without their labels."""
        return pipeline.predict_batches(
            split,
            preprocess=self.protocol.preprocess,
            batch_size=size,
            indices=rows,
            threads=self.config.execution["threads"],
        )

    # -- a trained network -----------------------------------------------------------------------

    @functools.cached_property
    def partition(self) -> Any:
        """Where the arrays of this experiment lie."""
        import jax

        from facebench.train import partition

        execution = self.config.execution
        if cache := execution["compilation_cache"]:
            jax.config.update("jax_compilation_cache_dir", str(Path(cache).absolute()))
        return partition.Partition(
            partition.make_mesh(execution["mesh"]), kind=execution["partition"]
        )

    def _backbone(self, spec: tasks.Spec) -> Any:
        from facebench import backbones

        semantic, root = self.config.semantic, self.ws.root
        return backbones.build(
            semantic["model"], semantic["train"]["precision"], spec.size, spec.axis_name, root
        )

    @functools.cached_property
    def _weights(self) -> Path | None:
        """The file that the backbone's weights are read from, where the config names one."""
        weights = self.config.semantic["model"].get("weights")
        return self.ws.root / weights if weights else None

    @functools.cached_property
    def _stored(self) -> Any:
        """The weights that every training starts from; None for those that its seed draws."""
        from facebench import backbones

        if self._weights is None:
            return None
        spec = tasks.Spec(self.protocol.preprocess["size"], axis_name=self.partition.axis_name)
        return backbones.stored_weights(self._weights, self._backbone(spec), spec.size)

    @functools.lru_cache(maxsize=8)  # noqa: B019 (an experiment lives as long as its run)
    def _programs(self, spec: tasks.Spec, steps: int) -> tuple[tasks.Task, Any, Any]:
        """The task, the module and the compiled programs, which trials of one shape share."""
        from facebench.train import loop, optim

        semantic, execution = self.config.semantic, self.config.execution
        recipe = semantic["optim"]
        task = self._task(spec)
        module = task.module(self._backbone(spec))
        schedule = loop.Plan(
            steps=steps,
            batch_size=semantic["data"]["batch_size"],
            accumulate=recipe["accumulate"],
            ema=recipe["ema"],
            log_every=execution["log_every"],
            checkpoint_every=execution["checkpoint_every"],
            tensorboard=execution["tensorboard"],
        )
        optimizer = optim.make(recipe, steps)
        shape = (spec.size, spec.size, 3)
        programs = loop.Programs(module, task, optimizer, schedule, self.partition, shape)
        return task, module, programs

    def _steps(self, subset: np.ndarray) -> int:
        """Updates of a trial: the config's, or as many epochs as they are on the whole split."""
        steps = self.config.semantic["train"]["steps"]
        if self.protocol.regimes["budget"] == "iso-epoch":
            steps = max(1, round(steps * len(subset) / len(self.dataset.split("train"))))
        return steps

    def _trained(
        self, job: plan.Job, subset: np.ndarray, title: str
    ) -> tuple[dict[str, np.ndarray] | None, dict[str, Any]]:
        """Trains, or goes on training, and predicts the test split."""
        from facebench import selection
        from facebench.train import checkpoint, loop

        semantic = self.config.semantic
        spec = self._spec(subset, self.partition.axis_name)
        task, module, programs = self._programs(spec, self._steps(subset))
        size, augment = semantic["data"]["batch_size"], semantic["data"]["augment"]
        facts: dict[str, Any] = {
            "time": {"train_s": 0.0, "predict_s": 0.0},
            "environment": _environment(),
        }
        given = None
        if self._stored is not None:
            facts["initial_weights"] = self._stored.digest
            given = {name: {"backbone": v} for name, v in self._stored.variables.items()}
        unit = self.partition.batch_parts
        rows = -(-self.config.execution["predict_batch_size"] // unit) * unit
        choice = None
        if self.protocol.selection == "dev":
            choice = self._choice(job.folder, programs, rows)
        try:
            fitted = loop.fit(
                programs,
                batches=lambda start: self._batches(subset, job, start, size, task, augment),
                seed=job.seed,
                workdir=job.folder,
                title=title,
                given=given,
                look=choice.look if choice else None,
                look_at=choice.candidates if choice else (),
            )
        except loop.Diverged as outcome:
            print(f"{title}{outcome}", file=sys.stderr)
            _, shapes = models.shapes(module, spec.size)
            return None, facts | {"parameters": models.parameter_count(shapes["params"])}
        begun = time.monotonic()
        variables = fitted.state.variables()
        if choice is not None:
            variables = choice.variables(variables)
            facts["step"] = choice.step
        outputs = loop.predict(programs, variables, self._test_batches(rows, subset))
        outputs = selection.with_thresholds(
            self.protocol,
            self.dataset,
            outputs,
            lambda part, kept: loop.predict(programs, variables, self._seen(part, kept, rows)),
        )
        seconds = {
            "train_s": fitted.train_s,
            "compile_s": fitted.compile_s,
            "predict_s": time.monotonic() - begun,
        }
        return outputs, facts | {
            "time": {name: round(value, 3) for name, value in seconds.items()},
            "parameters": models.parameter_count(variables["params"]),
            "weights": checkpoint.params_digest(variables),
        }

    def module(self, job: plan.Job) -> Any:
        """The Flax module of a training, whose variables `convert.trained.variables` reads."""
        subset, _ = subsets.of_protocol(self.protocol, self.dataset, job.value, job.seed)
        spec = self._spec(subset, self.partition.axis_name)
        return self._programs(spec, self._steps(subset))[1]

    def _choice(self, folder: Path, programs: Any, rows: int) -> Any:
        """Which step is reported, chosen on dev."""
        from facebench import selection
        from facebench.train import loop

        split, kept, labels = selection.dev(self.protocol, self.dataset)
        return selection.Choice(
            folder,
            self.protocol,
            labels,
            programs.plan.steps,
            lambda variables: loop.predict(programs, variables, self._seen(split, kept, rows)),
        )

    # -- a closed-form fit, on pixels or on the features of a frozen backbone ----------------------

    def _probe(self) -> probes.Probe:
        """The probe that the config names."""
        kwargs = dict(self.config.semantic["probe"])
        kwargs.pop("features", None)  # what it is given, not an argument of its own
        return probes.build(kwargs.pop("build"), kwargs, self.ws.root)

    def _task(self, spec: tasks.Spec) -> tasks.Task:
        """The protocol's task, which says what may be read."""
        return tasks.build(self.protocol.task, spec, self.config.semantic["task"], self.ws.root)

    @functools.cached_property
    def _frozen(self) -> Any:
        """The backbone whose features the probe reads, compiled once for all trials."""
        from facebench import backbones

        semantic = self.config.semantic
        spec = tasks.Spec(self.protocol.preprocess["size"], axis_name=self.partition.axis_name)
        return backbones.Frozen(
            self._backbone(spec),
            semantic["probe"]["features"],
            spec.size,
            semantic["data"]["batch_size"],
            self.partition,
            self._weights,
        )

    def _fitted(
        self, job: plan.Job, subset: np.ndarray, title: str
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Fits a probe on one pass over the subset, without augmentation, and predicts.

        Every image is read once. Without labels (regime ``zero``) there is nothing to pass over.
        """
        from facebench import selection

        semantic, probe = self.config.semantic, self._probe()
        size = min(semantic["data"]["batch_size"], len(subset) or sys.maxsize)
        seen: Callable[..., Any] = iter
        frozen = None
        begun = time.monotonic()
        if "model" in semantic:
            frozen = self._frozen.initial(job.seed)
            size, seen = self._frozen.rows, functools.partial(self._frozen.read, frozen.variables)
        if len(subset):
            task = self._task(self._spec(subset, None))
            batches = self._batches(subset, job, 0, size, task, None)
            with contextlib.closing(batches):  # type: ignore[type-var]
                probe.fit(seen(_first(batches, len(subset))))
        else:
            probe.fit(())
        fitted = time.monotonic()

        def predict(batches: Any) -> dict[str, np.ndarray]:
            rows: dict[str, list[np.ndarray]] = {}
            for batch in seen(batches):
                kept = batch["mask"] > 0
                for name, value in probe.predict(batch).items():
                    rows.setdefault(name, []).append(np.asarray(value)[kept])
            return {name: np.concatenate(parts) for name, parts in rows.items()}

        outputs = predict(self._test_batches(size, subset))
        outputs = selection.with_thresholds(
            self.protocol,
            self.dataset,
            outputs,
            lambda part, kept: predict(self._seen(part, kept, size)),
        )
        seconds = {"train_s": fitted - begun, "predict_s": time.monotonic() - fitted}
        return outputs, {
            "time": {name: round(value, 3) for name, value in seconds.items()},
            "parameters": probe.parameters + (frozen.parameters if frozen else 0),
            "weights": frozen.untouched() if frozen else None,
            "initial_weights": frozen.digest if frozen and self._weights else None,
            "environment": _environment(),
        }


def _first(batches: Iterator[dict[str, np.ndarray]], n: int) -> Iterator[dict[str, np.ndarray]]:
    """The first `n` samples of an endless sequence of batches: one epoch."""
    while n > 0:
        batch = next(batches)
        rows = min(n, len(batch["mask"]))
        yield {name: value[:rows] for name, value in batch.items()}
        n -= rows


def _environment() -> dict[str, Any]:
    import jax

    device = jax.devices()[0]
    return trial.environment(device.device_kind, jax.device_count())
