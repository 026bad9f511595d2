"""One experiment on its data: from a trial that is asked for to its predictions and their scores.

``protocol + subset -> pipeline -> task(backbone) -> the loop -> predictions -> judge -> trial``.
Predictions are written to disk first; the judge alone opens the test labels, and scores the file.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facebench import files, models, plan, plugins, probes, schemes, tasks
from facebench import protocol as protocols
from facebench.config import Config
from facebench.data import pipeline, source, subsets, targets, transforms
from facebench.errors import FacebenchError, UsageError
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
        for field, value, known in (
            ("selection", protocol.selection, ("last-step",)),
            ("regimes.kind", protocol.regimes["kind"], ("full", "fraction", "shots", "units")),
        ):
            if value not in known:
                raise FacebenchError(
                    f"protocol {protocol.id}: {field} is {value!r}, which a run does not do yet; "
                    "its trials would not be what it asks for"
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
            self._probe(self._spec(subset, None))
            return
        self._programs(self._spec(subset, self.partition.axis_name), self._steps(subset))

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
            stored = protocols.quantise(self.protocol, self._comparisons(outputs))
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

    def _comparisons(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What is stored: embeddings become the scores that the protocol asks for, and vanish."""
        if "pairs" not in self.protocol.evaluation:
            return dict(outputs)
        embedding = outputs["embedding"]
        probe, gallery = targets.gallery(self.protocol, len(embedding))
        return {
            "score": scores.pair_scores(embedding, targets.pairs(self.protocol, len(embedding))),
            "similarity": scores.similarity(embedding, probe, gallery),
        }

    def _spec(self, subset: np.ndarray, axis_name: str | None) -> tasks.Spec:
        train, evaluation = self.dataset.split("train"), self.protocol.evaluation
        reads = plugins.resolve(self.protocol.task, "task", tasks.BUILT_IN, self.ws.root).fields
        classes = 0
        if "label" in reads:
            classes = len({train.units[i] for i in subset})
        elif "expression" in reads:
            classes = len(subsets.classes(self.protocol, train)[0])
        elif "parse" in reads:
            classes = len(schemes.PARSE)
        return tasks.Spec(
            size=self.protocol.preprocess["size"],
            points=source.field(train, "points", [0]).shape[1] if "points" in reads else 0,
            classes=classes,
            axis_name=axis_name,
            action_units=tuple(evaluation.get("au", ())),
            occurs=evaluation.get("threshold", tasks.OCCURS),
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

    def _test_batches(self, size: int) -> Iterator[dict[str, np.ndarray]]:
        return pipeline.predict_batches(
            self.dataset.split("test"),
            preprocess=self.protocol.preprocess,
            batch_size=size,
            indices=subsets.used(self.protocol, self.dataset.split("test")),
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
        import jax.numpy as jnp

        kwargs = dict(self.config.semantic["model"])
        name = kwargs.pop("build")
        target = plugins.resolve(name, "model", models.BUILT_IN, self.ws.root)
        takes = plugins.parameters(target)
        for reserved in ("dtype", "axis_name"):
            if reserved in kwargs:
                raise UsageError(
                    f"config.model.{reserved} is set by the run; choose precision by "
                    "config.train.precision"
                )
        if "dtype" in takes:
            kwargs["dtype"] = jnp.dtype(self.config.semantic["train"]["precision"])
        elif self.config.semantic["train"]["precision"] != "float32":
            raise UsageError(f"model {name} has no field 'dtype': it cannot compute in bfloat16")
        if "axis_name" in takes:
            kwargs["axis_name"] = spec.axis_name
        backbone = models.build(name, kwargs, self.ws.root)
        models.check_backbone(backbone, spec.size)
        if spec.axis_name and "axis_name" not in takes:
            _, variables = models.shapes(backbone, spec.size)
            if "batch_stats" in variables:
                raise UsageError(
                    f"model {name} has batch norm and no field 'axis_name' to hand to it: under "
                    "config.execution.partition='pmap' each device would use its own statistics, "
                    "and the results would differ; add the field, or use 'jit'"
                )
        return backbone

    @functools.lru_cache(maxsize=8)  # noqa: B019 (an experiment lives as long as its run)
    def _programs(self, spec: tasks.Spec, steps: int) -> tuple[tasks.Task, Any, Any]:
        """The task, the module and the compiled programs, which trials of one shape share."""
        from facebench.train import loop, optim

        semantic, execution = self.config.semantic, self.config.execution
        recipe = semantic["optim"]
        task = tasks.build(self.protocol.task, spec, semantic["task"], self.ws.root)
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
        import jax

        from facebench.train import checkpoint, loop

        semantic = self.config.semantic
        spec = self._spec(subset, self.partition.axis_name)
        task, module, programs = self._programs(spec, self._steps(subset))
        size, augment = semantic["data"]["batch_size"], semantic["data"]["augment"]
        facts: dict[str, Any] = {
            "time": {"train_s": 0.0, "predict_s": 0.0},
            "environment": _environment(),
        }
        try:
            fitted = loop.fit(
                programs,
                batches=lambda start: self._batches(subset, job, start, size, task, augment),
                seed=job.seed,
                workdir=job.folder,
                title=title,
            )
        except loop.Diverged as outcome:
            print(f"{title}{outcome}", file=sys.stderr)
            _, shapes = models.shapes(module, spec.size)
            return None, facts | {"parameters": models.parameter_count(shapes["params"])}
        begun = time.monotonic()
        unit = self.partition.batch_parts
        rows = -(-self.config.execution["predict_batch_size"] // unit) * unit
        outputs = loop.predict(programs, fitted.state.variables(), self._test_batches(rows))
        seconds = {
            "train_s": fitted.train_s,
            "compile_s": fitted.compile_s,
            "predict_s": time.monotonic() - begun,
        }
        predicting = jax.device_get(fitted.state.predicting)
        return outputs, facts | {
            "time": {name: round(value, 3) for name, value in seconds.items()},
            "parameters": models.parameter_count(predicting),
            "weights": checkpoint.params_digest(fitted.state.variables()),
        }

    # -- a closed-form fit -------------------------------------------------------------------------

    def _probe(self, spec: tasks.Spec) -> tuple[probes.Probe, tasks.Task]:
        """The probe that the config names, and the task that says what it may read."""
        kwargs = dict(self.config.semantic["probe"])
        probe = probes.build(kwargs.pop("build"), kwargs, self.ws.root)
        name, given = self.protocol.task, self.config.semantic["task"]
        return probe, tasks.build(name, spec, given, self.ws.root)

    def _fitted(
        self, job: plan.Job, subset: np.ndarray, title: str
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Fits a probe on one pass over the subset, without augmentation, and predicts."""
        probe, task = self._probe(self._spec(subset, None))
        size = min(self.config.semantic["data"]["batch_size"], len(subset))
        begun = time.monotonic()
        batches = self._batches(subset, job, 0, size, task, None)
        with contextlib.closing(batches):  # type: ignore[type-var]
            probe.fit(_first(batches, len(subset)))
        fitted = time.monotonic()
        rows: dict[str, list[np.ndarray]] = {}
        for batch in self._test_batches(size):
            kept = batch["mask"] > 0
            for name, value in probe.predict(batch).items():
                rows.setdefault(name, []).append(np.asarray(value)[kept])
        seconds = {"train_s": fitted - begun, "predict_s": time.monotonic() - fitted}
        return {name: np.concatenate(parts) for name, parts in rows.items()}, {
            "time": {name: round(value, 3) for name, value in seconds.items()},
            "parameters": probe.parameters,
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
