"""Prepared datasets: building them with TFDS, opening them, verifying them.

A dataset is a folder ``datasets/NAME/`` with ``NAME_dataset_builder.py``, a TFDS builder:

- the class, in snake case, is named as the folder; it names its configs in ``BUILDER_CONFIGS``;
- ``generated = True`` on the class says that it needs no source. Others read the official release
  from ``dl_manager.manual_dir`` and say in ``MANUAL_DOWNLOAD_INSTRUCTIONS`` how to get it;
- features always have `key` and `unit` (``tfds.features.Text``) and `image`
  (``tfds.features.Image``, given encoded bytes); the order of samples is that of generation
  (``disable_shuffling=True``).

``facebench data prepare`` builds it as ArrayRecord files, without TensorFlow, under
``<data>/NAME/CONFIG/VERSION/``. Beside them stand ``samples-SPLIT.npz`` (the small fields of all
samples, and a digest of each), the lists of comparisons that the builder gives
(`facebench.data.lists`) and, made before the folder gets its name, ``facebench.json``:
``{name, config, version, splits: {split: {n, keys, content}}, lists, files}``. `content` is the
digest of the decoded pixels and every label of every sample, in order.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from facebench import files, plugins
from facebench.data import contents, lists
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.workspace import Workspace

SCHEMA = "facebench/dataset-1"
MARK = "facebench.json"


# ------------------------------------------------------------------------------------ builders


def names(ws: Workspace) -> list[str]:
    """The datasets of a workspace that have a builder; imports nothing."""
    return sorted(
        path.parent.name
        for path in ws.datasets.glob("*/*_dataset_builder.py")
        if path.name == f"{path.parent.name}_dataset_builder.py"
    )


def builder(ws: Workspace, name: str) -> Any:
    """The builder class of a dataset, loaded by path.

    Raises:
        UsageError: no dataset has that name.
        FacebenchError: the file fails on import, or holds no builder of that name.
    """
    known = names(ws)
    if name not in known:
        raise UsageError(f"no dataset is named {name!r}: {nearest(name, known)}")
    import tensorflow_datasets as tfds

    path = ws.datasets / name / f"{name}_dataset_builder.py"
    with tfds.core.registered.skip_registration():  # two workspaces may have the same name
        module = plugins.load_file(path)
    found: list[Any] = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, tfds.core.DatasetBuilder)
        and value.__module__ == module.__name__
    ]
    for cls in found:
        if cls.name == name:
            return cls
    raise FacebenchError(
        f"{path}: holds {', '.join(c.__name__ for c in found) or 'no TFDS builder'}; expected a "
        f"class {''.join(part.title() for part in name.split('_'))}"
        "(tfds.core.GeneratorBasedBuilder)"
    )


def generated(ws: Workspace, name: str) -> bool:
    """Whether a dataset is made from nothing, so that it may be prepared without being asked."""
    return bool(getattr(builder(ws, name), "generated", False))


def configs(ws: Workspace, name: str) -> list[str]:
    """The configs of a dataset, its default first.

    Raises:
        FacebenchError: the builder names none.
    """
    found = [config.name for config in builder(ws, name).BUILDER_CONFIGS]
    if not found:
        raise FacebenchError(f"dataset {name}: its builder names no config in BUILDER_CONFIGS")
    return found


def _folder(ws: Workspace, name: str, config: str | None, version: str | None) -> Path:
    """Where a prepared dataset stands; the builder is loaded only for what is not given."""
    if not (config and version and name in names(ws)):
        known = configs(ws, name)
        if config is not None and config not in known:
            raise UsageError(f"dataset {name} has no config {config!r}: {nearest(config, known)}")
        config = config or known[0]
        version = version or str(builder(ws, name).VERSION)
    return ws.data / name / config / version


# --------------------------------------------------------------------------------------- splits


class Split:
    """The samples of one split, in their fixed order; small to pickle, opened when first read.

    Attributes:
        folder: the prepared dataset's folder.
        label: ``NAME/CONFIG`` for messages.
        name: of the split.
    """

    def __init__(self, folder: Path, label: str, name: str, n: int):
        self.folder, self.label, self.name, self._n = folder, label, name, n
        self._opening = threading.Lock()
        self._records: Any = None
        self._text: tuple[str, ...] = ()

    def __getstate__(self) -> tuple:
        return self.folder, self.label, self.name, self._n

    def __setstate__(self, state: tuple) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def __len__(self) -> int:
        return self._n

    def __repr__(self) -> str:
        return f"Split({self.label}:{self.name}, {self._n} samples)"

    @cached_property
    def samples(self) -> dict[str, np.ndarray]:
        """The small fields of all samples, stacked, read from ``samples-SPLIT.npz``."""
        path = self.folder / f"samples-{self.name}.npz"
        try:
            arrays = files.read_npz(path)
        except FacebenchError as error:
            raise _damaged(self.folder, self.label, str(error)) from error
        for name in {"key", "unit", "digest", *arrays}:
            if name not in arrays or len(arrays[name]) != self._n:
                reason = f"{path.name} has not {self._n} values of {name!r}"
                raise _damaged(self.folder, self.label, reason)
        return arrays

    @cached_property
    def keys(self) -> list[str]:
        """The stable key of every sample."""
        return self.samples["key"].tolist()

    @cached_property
    def units(self) -> list[str]:
        """The subject, identity or video of every sample."""
        return self.samples["unit"].tolist()

    def record(self, i: int) -> dict[str, Any]:
        """Sample `i`: images as encoded bytes, texts as str, the rest as NumPy values.

        Raises:
            IndexError: there is no such sample.
            FacebenchError: the prepared files are missing or damaged.
        """
        record = self._read(i, lambda records: records[i])
        return {k: v.decode() if k in self._text else v for k, v in record.items()}

    def image(self, i: int) -> bytes:
        """The encoded image of sample `i`; its other fields are not parsed, which takes longer.

        Raises:
            IndexError: there is no such sample.
            FacebenchError: the prepared files are missing or damaged.
        """

        def only(records: Any) -> bytes:
            from tensorflow_datasets.proto import tf_example_pb2

            fields = tf_example_pb2.Example.FromString(records.data_source[i]).features.feature
            (data,) = fields["image"].bytes_list.value
            return data

        return self._read(i, only)

    def _read(self, i: int, read: Callable[[Any], Any]) -> Any:
        if not 0 <= i < self._n:
            raise IndexError(f"{self!r} has no sample {i}")
        try:
            if self._records is None:
                with self._opening:
                    if self._records is None:
                        self._text, self._records = _open_records(self.folder, self.name)
            return read(self._records)
        except Exception as error:
            key = ""
            with contextlib.suppress(FacebenchError):
                key = f" (key {self.keys[i]!r})"
            reason = f"split {self.name!r}, sample {i}{key}: {type(error).__name__}: {error}"
            raise _damaged(self.folder, self.label, reason) from error


def field(split: Split, name: str, indices: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
    """A field of all samples of a split, or of some, stacked; small fields are read once.

    Raises:
        UsageError: the dataset has no such field.
    """
    if name in split.samples and name != "digest":
        array = split.samples[name]
        return array if indices is None else array[np.asarray(indices)]
    first = split.record(0)
    if name not in first:
        raise UsageError(f"dataset {split.label} has no field {name!r}: {nearest(name, first)}")
    which = range(len(split)) if indices is None else indices
    return np.stack([np.asarray(split.record(int(i))[name]) for i in which])


def places(values: Any) -> np.ndarray:
    """Every value as its place among the sorted values: no name leaves the dataset."""
    return np.unique(np.array(values), return_inverse=True)[1].astype(np.int32)


def _open_records(folder: Path, split: str) -> tuple[tuple[str, ...], Any]:
    """The text fields of a split, and random access to its records; images stay encoded."""
    import tensorflow_datasets as tfds

    made = tfds.builder_from_directory(str(folder))
    features = made.info.features.items()
    images = [name for name, feature in features if isinstance(feature, tfds.features.Image)]
    texts = [name for name, feature in features if isinstance(feature, tfds.features.Text)]
    decoders = {name: tfds.decode.SkipDecoding() for name in images}
    return tuple(texts), made.as_data_source(split=split, decoders=decoders)


def _damaged(folder: Path, label: str, reason: str) -> FacebenchError:
    name = label.partition("/")[0]
    return FacebenchError(
        f"dataset {label}: the prepared files are damaged: {reason}; remove {folder} and run "
        f"`facebench data prepare {name}` again"
    )


# -------------------------------------------------------------------------------------- datasets


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset.

    Attributes:
        name: of the dataset's folder.
        config: of the builder.
        version: of the builder.
        folder: where the prepared files stand.
        facts: what ``facebench.json`` says.
        splits: split name -> `Split`.
    """

    name: str
    config: str
    version: str
    folder: Path
    facts: dict[str, Any]
    splits: dict[str, Split]

    @property
    def label(self) -> str:
        """``NAME/CONFIG``, for messages."""
        return f"{self.name}/{self.config}"

    def split(self, name: str) -> Split:
        """The split of that name.

        Raises:
            UsageError: the dataset has none; the nearest names are given.
        """
        if name not in self.splits:
            raise UsageError(
                f"dataset {self.label}: no split {name!r}: {nearest(name, self.splits)}"
            )
        return self.splits[name]


def prepared(
    ws: Workspace, name: str, config: str | None = None, version: str | None = None
) -> bool:
    """Whether a dataset is there, whole or damaged."""
    return (_folder(ws, name, config, version) / MARK).is_file()


def open(  # noqa: A001 - it reads `source.open(...)` where it is used
    ws: Workspace, name: str, config: str | None = None, version: str | None = None
) -> Dataset:
    """Opens a prepared dataset; its files are listed and their sizes checked, none is read.

    Args:
        ws: the workspace.
        name: of the dataset.
        config: of its builder; the first one if None.
        version: of its builder; the one it now builds if None.

    Raises:
        UsageError: no such dataset or config.
        FacebenchError: it is not prepared in that version, or files are missing or cut off.
    """
    folder = _folder(ws, name, config, version)
    config, version = folder.parts[-2:]
    label = f"{name}/{config}"
    if not (folder / MARK).is_file():
        if version != (built := str(builder(ws, name).VERSION)):
            raise FacebenchError(
                f"dataset {label}: version {version} is not prepared, and its builder now makes "
                f"{built}; use a protocol of {built}, or the release of the builder that makes "
                f"{version}"
            )
        if config not in (known := configs(ws, name)):
            raise UsageError(f"dataset {name} has no config {config!r}: {nearest(config, known)}")
        source = "" if generated(ws, name) else " --source=FOLDER"
        raise FacebenchError(
            f"dataset {label} {version} is not prepared ({folder} has no {MARK}); run "
            f"`facebench data prepare {label}{source}`"
        )
    facts = files.read_json(folder / MARK)
    if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
        found = facts.get("schema") if isinstance(facts, dict) else type(facts).__name__
        raise _damaged(folder, label, f"{MARK} has schema {found!r}, expected {SCHEMA!r}")
    for file, size in facts["files"].items():
        path = folder / file
        if not path.is_file():
            raise _damaged(folder, label, f"{file} is missing")
        if path.stat().st_size != size:
            raise _damaged(folder, label, f"{file} has {path.stat().st_size} of {size} bytes")
    splits = {s: Split(folder, label, s, fact["n"]) for s, fact in facts["splits"].items()}
    return Dataset(name, config, version, folder, facts, splits)


# --------------------------------------------------------------------------------- preparation


def prepare(
    ws: Workspace, name: str, config: str | None = None, source_dir: Path | str | None = None
) -> Dataset:
    """Builds a dataset, or opens it if it is there already.

    Everything is made in a folder of its own under ``<data>`` and renamed as a whole at the end:
    a killed preparation leaves nothing that looks prepared, and the next one clears it away. Of
    several at a time, one builds and the others wait.

    Args:
        ws: the workspace.
        name: of the dataset.
        config: of its builder; the first one if None.
        source_dir: the folder of the official release; default ``$FACEBENCH_REAL_DATA/NAME``,
            then ``<data>/manual/NAME``. Generated datasets take none.

    Raises:
        UsageError: no such dataset or config, or a source for a generated dataset.
        FacebenchError: there is no release where it was looked for, or it is broken, or the
            builder fails, or the disk is full.
    """
    folder = _folder(ws, name, config, None)
    config = folder.parent.name
    cls = builder(ws, name)
    if source_dir is not None and getattr(cls, "generated", False):
        raise UsageError(f"dataset {name} is generated and takes no source; leave it out")
    if (folder / MARK).is_file():
        return open(ws, name, config)
    source = None if getattr(cls, "generated", False) else _source(ws, name, cls, source_dir)
    with files.explained(folder, "preparing"):
        ws.data.mkdir(parents=True, exist_ok=True)
        with _lock(ws.data / f".preparing-{name}-{config}.lock"):
            if not (folder / MARK).is_file():
                work = ws.data / f".preparing-{name}-{config}"
                shutil.rmtree(work, ignore_errors=True)
                try:
                    made, given = _build(cls, name, config, source, work)
                    _write_facts(made, name, config, str(cls.VERSION), given)
                    _sync(made)
                    if folder.exists():  # without its mark: not ours, or somebody removed it
                        shutil.rmtree(folder)
                    folder.parent.mkdir(parents=True, exist_ok=True)
                    made.rename(folder)
                finally:
                    shutil.rmtree(work, ignore_errors=True)
    return open(ws, name, config)


def _source(ws: Workspace, name: str, cls: Any, given: Path | str | None) -> Path:
    """The folder of the official release."""
    if given is not None:
        places = [Path(given)]
    else:
        real = os.environ.get("FACEBENCH_REAL_DATA")
        places = [Path(real) / name] if real else []
        places.append(ws.data / "manual" / name)
    for place in places:
        if place.is_dir():
            return place.resolve()
    what = " ".join((cls.MANUAL_DOWNLOAD_INSTRUCTIONS or "").split())
    raise FacebenchError(
        f"dataset {name}: no such folder: {' nor '.join(map(str, places))}; "
        f"datasets/{name}/README.md says how to get the official release. {what} Then run "
        f"`facebench data prepare {name} --source=FOLDER`"
    )


def _build(
    cls: Any, name: str, config: str, source: Path | None, work: Path
) -> tuple[Path, dict[str, Any]]:
    """Runs the TFDS builder under `work`; the folder it made, and its lists of comparisons."""
    import tensorflow_datasets as tfds

    download = tfds.download.DownloadConfig(manual_dir=source and str(source))
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        made = cls(data_dir=str(work), config=config)
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS chats about sizes it does not know
            made.download_and_prepare(download_config=download, file_format="array_record")
            given = made.lists(source) if hasattr(made, "lists") else {}
    except (FacebenchError, OSError):
        raise
    except Exception as error:
        if os.strerror(errno.ENOSPC) in str(error):  # as the ArrayRecord writer says it
            raise OSError(errno.ENOSPC, str(error)) from error
        raise FacebenchError(
            f"dataset {name}/{config}: its builder failed: {type(error).__name__}: {error}"
        ) from error
    return Path(made.data_dir), given


def _write_facts(folder: Path, name: str, config: str, version: str, given: dict[str, Any]) -> None:
    """Writes ``samples-SPLIT.npz`` of every split, the lists, and last ``facebench.json``."""
    import tensorflow_datasets as tfds

    label = f"{name}/{config}"
    splits = {}
    for split, info in tfds.builder_from_directory(str(folder)).info.splits.items():
        samples = contents.samples(Split(folder, label, split, info.num_examples))
        files.write_npz(folder / f"samples-{split}.npz", samples)
        splits[split] = contents.facts(samples)
    facts: dict[str, Any] = {"schema": SCHEMA, "name": name, "config": config, "version": version}
    if given:
        facts["lists"] = lists.write(folder, label, given, {s: f["n"] for s, f in splits.items()})
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    files.write_json(folder / MARK, {**facts, "splits": splits, "files": sizes})


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time; a killed one lets go."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sync(folder: Path) -> None:
    """Brings a folder's files to the disk, so that its new name never precedes them."""
    for path in (*folder.iterdir(), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def verify(ws: Workspace, name: str, config: str | None = None) -> list[str]:
    """Reads every sample of a prepared dataset again and says what differs from what was built.

    Returns:
        one line per difference; empty if everything is as it was.

    Raises:
        FacebenchError: it is not prepared, or a file is missing or unreadable.
    """
    dataset = open(ws, name, config)
    for listed, said in dataset.facts.get("lists", {}).items():
        lists.read(dataset.split(said["split"]), listed)
    return [
        line
        for split in dataset.splits.values()
        for line in contents.differences(split, dataset.facts["splits"][split.name])
    ]
