"""Files of weights: what they say, what is refused, and that a backbone gets back what it had."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from facebench import models, tensors
from facebench.errors import FacebenchError
from facebench.models import stored
from facebench.models.convnet import ConvNet
from facebench.models.vit import ViT
from facebench.train import checkpoint

NET = ConvNet(widths=(4, 6), blocks=(1, 1))
ORIGIN = {"source": "sha256:" + "0" * 64, "key": "state_dict", "licence": "CC0"}


def variables_of(net, size=16, seed=0):
    rng = np.random.default_rng(seed)
    shapes = models.shapes(net, size)[1]
    return jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), shapes)


@pytest.fixture
def saved(tmp_path):
    variables = variables_of(NET)
    header = stored.describe(NET, "convnet", 16, variables, **ORIGIN)
    stored.write(tmp_path / "a.safetensors", header, variables)
    return tmp_path / "a.safetensors", header, variables


def test_round_trip(saved):
    path, header, variables = saved
    back = stored.load(path, NET, 16)
    assert back.header == header
    jax.tree.map(np.testing.assert_array_equal, back.variables, dict(variables))
    image = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3))
    run = jax.jit(lambda v: NET.apply(v, image, train=False)["pooled"])
    np.testing.assert_array_equal(run(back.variables), run(variables))


def test_the_header_says_what_the_net_is(saved):
    _, header, variables = saved
    assert header["weights"] == checkpoint.params_digest(variables)
    assert header["parameters"] == models.parameter_count(variables["params"])
    assert header["fields"] == {"widths": [4, 6], "blocks": [1, 1], "stem_stride": 2}
    assert (header["model"], header["class"], header["size"]) == ("convnet", "ConvNet", 16)


def test_equal_weights_give_equal_files(saved, tmp_path):
    path, header, variables = saved
    turned = {k: dict(reversed(list(v.items()))) for k, v in reversed(list(variables.items()))}
    stored.write(tmp_path / "b.safetensors", dict(reversed(list(header.items()))), turned)
    assert (tmp_path / "b.safetensors").read_bytes() == path.read_bytes()


def test_how_it_is_computed_and_regularised_may_differ(saved):
    path, _, variables = saved
    elsewhere = NET.clone(dropout=0.5, axis_name="data", dtype="bfloat16")
    for net, size in ((elsewhere, 16), (NET, 32)):  # a convolutional net has no size of its own
        back = stored.load(path, net, size)
        jax.tree.map(np.testing.assert_array_equal, back.variables, dict(variables))


def test_weights_of_another_model_are_refused(saved, tmp_path):
    path, *_ = saved
    for net, said in (
        (ConvNet(widths=(4, 8), blocks=(1, 1)), r"widths is \[4, 6\], the model's is \[4, 8\]"),
        (ConvNet(widths=(4, 6), blocks=(1, 1), stem_stride=1), "stem_stride is 2"),
        (ViT(), "class is ConvNet, the model's is ViT"),
    ):
        with pytest.raises(FacebenchError, match=said):
            stored.load(path, net, 16)


def test_a_field_that_changes_no_shape_counts_all_the_same(tmp_path):
    net = ViT(dim=8, depth=1, heads=2)
    variables = variables_of(net)
    header = stored.describe(net, "vit", 16, variables, **ORIGIN)
    stored.write(tmp_path / "a", header, variables)
    assert jax.tree.map(np.shape, variables_of(net.clone(heads=4))) == jax.tree.map(
        np.shape, variables
    )
    with pytest.raises(FacebenchError, match="heads is 2, the model's is 4"):
        stored.load(tmp_path / "a", net.clone(heads=4), 16)


def test_weights_for_another_size_are_refused(tmp_path):
    net = ViT(dim=8, depth=1, heads=2)
    variables = variables_of(net, 16)
    header = stored.describe(net, "vit", 16, variables, **ORIGIN)
    stored.write(tmp_path / "a", header, variables)
    with pytest.raises(FacebenchError, match=r"params/position is \(1, 4, 8\).*made for 16 px"):
        stored.load(tmp_path / "a", net, 32)


def test_a_field_that_is_younger_than_the_file_has_its_default_there(saved):
    path, *_ = saved
    changed(path, lambda a, h: (a, {**h, "fields": {"widths": [4, 6], "blocks": [1, 1]}}))
    stored.load(path, NET, 16)
    with pytest.raises(FacebenchError, match="stem_stride is 2, the model's is 1"):
        stored.load(path, NET.clone(stem_stride=1), 16)
    changed(path, lambda a, h: (a, {**h, "fields": {**h["fields"], "gone": 3}}))
    with pytest.raises(FacebenchError, match="gone is 3, the model's is not there"):
        stored.load(path, NET, 16)


def changed(path, change):
    arrays, text = tensors.read(path)
    header = json.loads(text[stored.TEXT])
    arrays, header = change(dict(arrays), header)
    tensors.write(path, arrays, {stored.TEXT: json.dumps(header)})


def test_what_was_changed_is_noticed(saved):
    path, header, _ = saved

    def nudge(arrays, header):
        name = sorted(arrays)[0]
        return {**arrays, name: arrays[name] + 1}, header

    changed(path, nudge)
    with pytest.raises(FacebenchError, match=rf"its header says {header['weights']}"):
        stored.read(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a, h: (a, {**h, "format": 2}), "format 2, expected 1"),
        (lambda a, h: (a, [1]), "expected 1"),
        (lambda a, h: (a, {**h, "fields": "x"}), "fields of its header is 'x', expected dict"),
        (lambda a, h: (a, {k: v for k, v in h.items() if k != "licence"}), "licence"),
        (lambda a, h: (a, {**h, "size": True}), "size of its header is 'True', expected int"),
        (lambda a, h: ({**a, "params/x": np.zeros(2)}, h), "params/x is float64, not float32"),
        (lambda a, h: ({**a, "params/stem": np.zeros(2, "f4")}, h), "params/stem"),
        (lambda a, h: ({**a, "params/stem/kernel/a": np.zeros(2, "f4")}, h), "inside an array"),
    ],
)
def test_headers_and_names_that_do_not_fit(saved, change, said):
    path, *_ = saved
    changed(path, change)
    with pytest.raises(FacebenchError, match=said):
        stored.read(path)


def test_other_safetensors_files(tmp_path):
    tensors.write(tmp_path / "a", {"w": np.zeros(2, np.float32)}, {})
    with pytest.raises(FacebenchError, match="facebench convert FILE"):
        stored.read(tmp_path / "a")
    tensors.write(tmp_path / "a", {}, {stored.TEXT: "{"})
    with pytest.raises(FacebenchError, match="no JSON"):
        stored.read(tmp_path / "a")


def test_text_that_looks_like_a_number_is_text():
    assert stored.fields_of(ViT(pool=50))["pool"] == "50"
    assert stored.fields_of(ViT(dim=50))["dim"] == 50


def test_a_field_that_json_cannot_say():
    net = ConvNet(widths=(np.int64(4),), blocks=(1,))
    with pytest.raises(FacebenchError, match=r"ConvNet\.widths is a int64"):
        stored.fields_of(net)
