"""The synthface builder, loaded by path as a workspace loads it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from facebench import synth

FILE = Path(__file__).parents[2] / "datasets/synthface/synthface_dataset_builder.py"


@pytest.fixture
def module() -> Iterator[ModuleType]:
    name = "test_synthface_dataset_builder"
    spec = importlib.util.spec_from_file_location(name, FILE)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    yield made
    del sys.modules[name]


def test_splits_are_of_different_people(module: ModuleType) -> None:
    sizes = {}
    for config in module.Builder.BUILDER_CONFIGS:
        numbers: list[set[int]] = []
        vectors: list[set[bytes]] = []
        for name, world in config.worlds.items():
            sizes[config.name, name] = len(world)
            people = range(world.first_identity, world.first_identity + world.identities)
            numbers.append(set(people))
            vectors.append({synth.identity_vector(world, k).tobytes() for k in people})
        for kind in (numbers, vectors):
            assert len(set.union(*kind)) == sum(map(len, kind))
    assert sizes == {
        ("landmarks-64", "train"): 2000,
        ("landmarks-64", "dev"): 200,
        ("landmarks-64", "test"): 400,
        ("recognition-64", "train"): 2000,
        ("recognition-64", "dev"): 100,
        ("recognition-64", "test"): 160,
    }


def test_builds_and_reads_back(module: ModuleType, tmp_path: Path) -> None:
    tiny = module.SynthConfig(
        name="tiny", description="a test", worlds=module._worlds(32, 5, train=(3, 2), test=(2, 1))
    )
    module.Builder.BUILDER_CONFIGS = [*module.Builder.BUILDER_CONFIGS, tiny]
    module.Builder.builder_configs = {c.name: c for c in module.Builder.BUILDER_CONFIGS}
    builder = module.Builder(config="tiny", data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    source = builder.as_data_source()
    assert {name: len(split) for name, split in source.items()} == {"train": 6, "test": 2}
    seen = set()
    for name, split in source.items():
        for example in split:
            key = example["key"].decode()
            seen.add(key)
            i = int(key.rsplit("/", 1)[1])
            assert key == f"tiny/{name}/{i:06d}"
            s = synth.sample(tiny.worlds[name], i)
            assert example["unit"].decode() == f"id-{s.identity:05d}"
            for field in ("image", "points", "visible", "box", "au", "pose", "light"):
                value = np.asarray(example[field])
                assert np.array_equal(value, getattr(s, field)), field
                assert value.dtype == getattr(s, field).dtype
            assert example["identity"] == s.identity
            assert example["expression"] == s.expression
    assert len(seen) == 8


def test_data_card(module: ModuleType) -> None:
    folder = FILE.parent
    card = (folder / "README.md").read_text(encoding="utf-8")
    for config in module.Builder.BUILDER_CONFIGS:
        assert config.name in card
    for field in module.Builder(config="landmarks-64").info.features:
        assert f"`{field}`" in card
    assert (folder / "CITATIONS.bib").read_text(encoding="utf-8").startswith("@")
    assert (folder / "TAGS.txt").read_text(encoding="utf-8").strip()
