"""The command from a PyTorch checkpoint to a file of weights, with its proof."""

from __future__ import annotations

import numpy as np
import pytest

from facebench import digest, files, models, tensors
from facebench.cli import main
from facebench.convert import proof
from facebench.errors import FacebenchError
from facebench.models import stored
from facebench.models.swin import Swin, torch_names

FIELDS = {"patch": 4, "dim": 4, "depths": (1, 1), "heads": (1, 2), "window": 2, "embedding": 3}
FLAGS = [
    "--model=swin", "--model.patch=4", "--model.dim=4", "--model.depths=[1,1]",
    "--model.heads=[1,2]", "--model.window=2", "--model.embedding=3", "--size=16",
]  # fmt: skip


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    (tmp_path / "WORKSPACE.md").write_text("# test\n")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def net():
    """A tiny net, its state dict under the published keys, an input and what it returns."""
    import jax
    from flax import traverse_util

    rng = np.random.default_rng(0)
    module = Swin(**FIELDS)
    shapes = traverse_util.flatten_dict(models.shapes(module, 16)[1], sep="/")
    ours = {
        path: (rng.uniform(0.5, 1.5, s.shape) if path.endswith("var") else rng.normal(size=s.shape))
        for path, s in shapes.items()
    }
    ours = {path: value.astype(np.float32) for path, value in ours.items()}
    state = {}
    for path, (key, how) in torch_names(module).items():
        value = ours[path]
        if how == "dense":
            value = value.T
        elif how != "same":
            value = value.reshape(4, 4, 3, 4).transpose(3, 2, 0, 1)
        state[f"module.{key}"] = np.ascontiguousarray(value)
    state["module.head.weight"] = np.zeros((3, 8), np.float32)
    state["module.layers.0.blocks.0.attn.relative_position_index"] = np.zeros((4, 4), np.int64)
    state["module.feature.1.num_batches_tracked"] = np.array(3)
    image = rng.uniform(-1, 1, (9, 3, 16, 16)).astype(np.float32)
    variables = traverse_util.unflatten_dict(ours, sep="/")
    run = jax.jit(lambda x: module.apply(variables, x, train=False))
    outputs = {k: np.asarray(v) for k, v in run(image.transpose(0, 2, 3, 1)).items()}
    return variables, state, image, outputs


def saved(path, state):
    tensors.write(path, state, {})
    return str(path)


def test_the_whole_way(net, tmp_path, capsys):
    variables, state, image, outputs = net
    source = saved(tmp_path / "net.safetensors", state)
    maps = outputs["spatial"].transpose(0, 3, 1, 2)
    files.write_npz(
        tmp_path / "x.npz", {"input": image, "output": outputs["embedding"], "spatial": maps}
    )
    words = ["convert", source, *FLAGS, "--output=out", "--prove=x.npz", "--licence=CC0"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "equal   embedding of 9 images" in said
    assert "equal   spatial of 9 images" in said
    (path,) = (tmp_path / "out").iterdir()
    got = stored.load(path, Swin(**FIELDS), 16)
    assert path.name == f"swin-{digest.short(got.header['weights'])}.safetensors"
    for name, value in stored.flat(variables).items():
        np.testing.assert_array_equal(stored.flat(got.variables)[name], value)
    assert got.header["source"] == digest.of_file(tmp_path / "net.safetensors")
    assert (got.header["licence"], got.header["key"], got.header["model"]) == ("CC0", "", "swin")
    assert got.header["weights"] in said
    assert f"{got.header['parameters']:,} parameters" in said
    before = path.read_bytes()
    assert main(words) == 0
    assert path.read_bytes() == before


def test_a_torch_file_gives_the_same_weights(net, tmp_path, torch_files, capsys):
    _, state, *_ = net
    held, numbers = {}, {}
    for i, (key, array) in enumerate(state.items()):
        kind = "i8" if array.dtype == np.int64 else "f4"
        numbers[str(i)] = array.tobytes()
        held[key] = torch_files.tensor(str(i), kind, array.size, array.shape)
    value = {"state_dict_backbone": held, "state_dict_fam": {"w": held["module.norm.weight"]}}
    (tmp_path / "net.pt").write_bytes(torch_files.zipped(value, numbers))
    words = ["convert", "net.pt", *FLAGS]
    assert main([*words, "--output=a.safetensors"]) == 2
    assert "choose one with --key=" in capsys.readouterr().err
    assert main([*words, "--output=a.safetensors", "--key=state_dict_backbone"]) == 0
    assert "unproven" in capsys.readouterr().out
    source = saved(tmp_path / "net.safetensors", state)
    assert main(["convert", source, *FLAGS, "--output=b.safetensors"]) == 0
    a, b = (stored.read(tmp_path / f"{n}.safetensors").header for n in "ab")
    assert a["weights"] == b["weights"]
    assert a["key"] == "state_dict_backbone"


def test_outputs_that_differ_write_nothing(net, tmp_path, capsys):
    _, state, image, outputs = net
    source = saved(tmp_path / "net.safetensors", state)
    files.write_npz(tmp_path / "x.npz", {"input": image[:, ::-1], "output": outputs["embedding"]})
    words = ["convert", source, *FLAGS, "--output=out", "--prove=x.npz"]
    assert main(words) == 1
    assert "the outputs differ: embedding by" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    off = outputs["embedding"] * (1 + 1e-3)
    files.write_npz(tmp_path / "x.npz", {"input": image, "output": off})
    assert main(words) == 1
    assert main([*words, "--tolerance=1e-2"]) == 0


def test_checkpoints_that_do_not_fit(net, tmp_path, capsys):
    _, state, *_ = net
    source = saved(tmp_path / "net.safetensors", {**state, "module.extra.weight": np.zeros(2)})
    words = ["convert", source, *FLAGS, "--output=out"]
    assert main(words) == 1
    assert "extra.weight" in capsys.readouterr().err
    assert main([*words, "--ignore=extra.*"]) == 0
    assert main([*words[:-1], "--output=out2", "--model.dim=8", "--ignore=extra.*"]) == 1
    assert "shape" in capsys.readouterr().err
    assert not (tmp_path / "out2").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "usage: facebench convert"),
        (["net.safetensors"], "--model"),
        (["net.safetensors", "--model=swin"], "--output"),
        (["net.safetensors", "--model=swim", "--output=o"], "did you mean 'swin'"),
        (["net.safetensors", "--model=swin", "--model.dims=3", "--output=o"], "did you mean 'dim'"),
        (["net.safetensors", "--model=swin", "--model.dtype=x", "--output=o"], "set by a run"),
        (["net.safetensors", "--model=swin", "--sise=3", "--output=o"], "did you mean 'size'"),
        (["net.safetensors", *FLAGS, "--key=a", "--output=o"], "leave it out"),
    ],
)
def test_wrong_words(net, tmp_path, capsys, words, said):
    saved(tmp_path / "net.safetensors", net[1])
    assert main(["convert", *words]) == 2
    assert said in capsys.readouterr().err


# -- the proof ------------------------------------------------------------------------------------


def compare(net, tmp_path, **arrays):
    variables, _, image, outputs = net
    arrays = {"input": image, "output": outputs["embedding"]} | arrays
    files.write_npz(tmp_path / "x.npz", {k: v for k, v in arrays.items() if v is not None})
    return proof.compare(Swin(**FIELDS), variables, 16, tmp_path / "x.npz")


def test_both_orders_of_axes(net, tmp_path):
    _, _, image, outputs = net
    for x in (image, image.transpose(0, 2, 3, 1)):
        (found,) = compare(net, tmp_path, input=x)
        assert (found.output, found.images) == ("embedding", 9)
        assert found.relative < 1e-5
    for x in (outputs["spatial"], outputs["spatial"].transpose(0, 3, 1, 2)):
        (found,) = compare(net, tmp_path, output=None, spatial=x)
        assert found.relative < 1e-5


def test_how_large_a_difference_is(net, tmp_path):
    expected = net[3]["embedding"].astype(np.float64)
    changed = expected.copy()
    changed[8, 2] += 0.25
    (found,) = compare(net, tmp_path, output=changed)
    assert found.absolute == pytest.approx(0.25, rel=1e-4)
    assert found.relative == pytest.approx(0.25 / np.sqrt((changed**2).mean()), rel=1e-4)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"input": None}, "no array 'input'"),
        ({"output": None}, "no array 'output'"),
        ({"input": np.zeros((9, 3, 8, 8), np.float32)}, r"expected finite floats \[n, 3, 16, 16\]"),
        ({"input": np.zeros((9, 3, 16, 16), np.uint8)}, "input is uint8"),
        ({"input": np.full((9, 3, 16, 16), np.nan, np.float32)}, "finite"),
        ({"input": np.zeros((0, 3, 16, 16), np.float32)}, "input is"),
        ({"output": np.zeros((9, 4), np.float32)}, r"expected floats \[9, 3\]"),
        ({"output": np.zeros((9, 3), np.float32)}, "all zero"),
        ({"output": np.full((9, 3), np.inf, np.float32)}, "not finite"),
        ({"poled": np.ones((9, 8), np.float32)}, "did you mean 'pooled'"),
    ],
)
def test_examples_that_prove_nothing(net, tmp_path, arrays, said):
    with pytest.raises(FacebenchError, match=said):
        compare(net, tmp_path, **arrays)


def test_a_difference_that_is_no_number_is_not_equal(tmp_path):
    wrong = [proof.Difference("embedding", 1, float("nan"), float("nan"))]
    with pytest.raises(FacebenchError, match="differ"):
        proof.require_equal(wrong, 1e-4, tmp_path)


# -- published nets -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "model", "fields"),
    [
        ("iresnet_tiny1111_f64", "iresnet", ["--model.blocks=[1,1,1,1]", "--model.dim=64"]),
        ("mobilefacenet_f128", "mobilefacenet", ["--model.dim=128"]),
        ("arcface_vit_tiny", "face_vit", ["--model.sizes=[96,2,4]", "--model.dim=64"]),
    ],
)
def test_the_reference_nets_through_the_command(oracles, tmp_path, capsys, file, model, fields):
    with np.load(oracles / f"models/{file}.npz") as vectors:
        files.write_npz(tmp_path / "x.npz", {"input": vectors["in_x"], "output": vectors["out"]})
    source = str(oracles / f"models/{file}.safetensors")
    flags = [f"--model={model}", *fields, "--output=out", "--prove=x.npz", "--tolerance=1e-5"]
    assert main(["convert", source, *flags]) == 0
    assert "equal   embedding of 2 images" in capsys.readouterr().out
