"""The experiment files of VTFF and TransFER: what they build, and that ablations are ablations."""

from __future__ import annotations

import pytest

from facebench import backbones, config, models
from facebench.errors import FacebenchError

ARGS = {
    "vtff": ("tiny", "tiny-rgb", "tiny-lbp", "tiny-sum"),
    "transfer": ("tiny", "tiny-mad", "tiny-msad", "tiny-none"),
}
DIFFERENT = {
    "vtff": {"branches", "fusion"},
    "transfer": {"attention_drop", "head_drop"},
}
PARAMETERS = {"vtff": 70_665_026, "transfer": 65_230_884}
TINY = 1_500_000  # parameters


def load(repository, name, arg=""):
    spec = f"{repository}/experiments/expression/{name}.py"
    return config.load(f"{spec}:{arg}" if arg else spec)


def built(repository, loaded, size):
    backbone = backbones.build(loaded["model"], "float32", size, None, repository)
    return models.parameter_count(models.shapes(backbone, size)[1]["params"])


@pytest.mark.parametrize("name", ARGS)
def test_ablations_differ_in_what_they_are_named_after(repository, name):
    found = [load(repository, name, arg).semantic for arg in ARGS[name]]
    assert [one.pop("entry") for one in found] == [f"{name}-{arg}" for arg in ARGS[name]]
    options = [{k: one["model"].pop(k, None) for k in DIFFERENT[name]} for one in found]
    assert all(one == found[0] for one in found)
    assert len({tuple(sorted(o.items(), key=str)) for o in options}) == len(options)


@pytest.mark.parametrize("name", ARGS)
def test_sizes(repository, name):
    assert (
        built(repository, load(repository, name), 112 if name == "transfer" else 224)
        == (PARAMETERS[name])
    )
    assert built(repository, load(repository, name, "tiny"), 64) < TINY


@pytest.mark.parametrize("name", ARGS)
def test_another_argument_is_refused(repository, name):
    with pytest.raises(FacebenchError, match="expected nothing or one of tiny"):
        load(repository, name, "tyni")
