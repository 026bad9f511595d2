"""PyTorch's two layouts: what is read, and what is refused."""

from __future__ import annotations

import random
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from facebench.convert import checkpoint, pickles, torchfile
from facebench.errors import FacebenchError, UsageError

KINDS = {
    "f8": "<f8", "f4": "<f4", "f2": "<f2", "i8": "<i8", "i4": "<i4", "i2": "<i2", "i1": "i1",
    "u1": "u1", "b1": "?",
}  # fmt: skip
SIX = np.arange(6, dtype="<f4")


@pytest.fixture(params=["zip", "legacy"])
def layout(request, torch_files, tmp_path):
    """Writes a checkpoint in either layout: value and key -> (numbers, bytes)."""

    class Layout:
        name = request.param
        view = () if request.param == "zip" else (None,)

        def tensor(self, *args, **kwargs):
            return torch_files.tensor(*args, view=self.view, **kwargs)

        def write(self, value, storages):
            path = tmp_path / "net.pt"
            if self.name == "zip":
                held = {key: data for key, (_, data) in storages.items()}
                path.write_bytes(torch_files.zipped(value, held))
            else:
                path.write_bytes(torch_files.legacy(value, storages))
            return path

    return Layout()


def written(path, data):
    path.write_bytes(data)
    return path


def six(files, **kwargs):
    """A tensor of six numbers."""
    return files.tensor("0", "f4", 6, (2, 3), **kwargs)


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_of_number(layout, kind):
    numbers = np.array([0, 1, 0, 1, 1, 0]) if kind == "b1" else np.array([-3, 0, 7, 100, 2, 1])
    numbers = numbers.astype(KINDS[kind])
    value = {"w": layout.tensor("0", kind, 6, (2, 3))}
    state, _ = checkpoint.read(layout.write(value, {"0": (6, numbers.tobytes())}))
    assert state["w"].dtype == np.dtype(KINDS[kind])
    np.testing.assert_array_equal(state["w"], numbers.reshape(2, 3))


def test_bfloat16_is_the_upper_half_of_float32(layout):
    numbers = np.array([1.0, -2.5, 3.140625, 1e30, 0.0, -0.0], np.float32)
    data = (numbers.view(np.uint32) >> 16).astype("<u2").tobytes()
    value = {"w": layout.tensor("0", "bf16", 6, (6,))}
    state, _ = checkpoint.read(layout.write(value, {"0": (6, data)}))
    assert state["w"].dtype == np.float32
    np.testing.assert_allclose(state["w"], numbers, rtol=2**-7)
    assert state["w"][:3].tolist() == [1.0, -2.5, 3.140625]


def test_views_offsets_strides_and_shared_storages(layout, torch_files):
    t = layout.tensor
    value = torch_files.Call(
        "collections.OrderedDict",
        [
            ["transposed", t("7", "f4", 6, (3, 2), (1, 3))],
            ["part", t("7", "f4", 6, (2,), (2,), 1)],
            ["scalar", t("7", "f4", 6, (), (), 5)],
            ["empty", t("7", "f4", 6, (0, 3))],
            ["none", t("8", "f4", 0, (0,))],
            ["other", torch_files.Call("torch._utils._rebuild_parameter",
                                       t("9", "f4", 1, (1,)), True, {})],
        ],
    )  # fmt: skip
    storages = {"7": (6, SIX.tobytes()), "8": (0, b""), "9": (1, b"\0\0\x80?")}
    state, key = checkpoint.read(layout.write(value, storages))
    assert key == ""
    np.testing.assert_array_equal(state["transposed"], SIX.reshape(2, 3).T)
    np.testing.assert_array_equal(state["part"], [1, 3])
    assert (state["scalar"].shape, float(state["scalar"])) == ((), 5.0)
    assert (state["empty"].shape, state["none"].shape) == ((0, 3), (0,))
    np.testing.assert_array_equal(state["other"], [1])
    assert np.shares_memory(state["transposed"], state["part"])
    assert not state["part"].flags.writeable


def test_big_endian(torch_files, tmp_path):
    data = torch_files.zipped({"w": six(torch_files)}, {"0": SIX.astype(">f4")}, order=b"big")
    state, _ = checkpoint.read(written(tmp_path / "a.pt", data))
    np.testing.assert_array_equal(state["w"], SIX.reshape(2, 3))
    data = torch_files.zipped({"w": six(torch_files)}, {"0": SIX.tobytes()}, order=b"middle")
    with pytest.raises(FacebenchError, match="byteorder is b'middle'"):
        checkpoint.read(written(tmp_path / "b.pt", data))
    data = torch_files.legacy({"w": six(torch_files)}, {"0": (6, SIX.tobytes())}, little=False)
    with pytest.raises(FacebenchError, match="big-endian"):
        checkpoint.read(written(tmp_path / "c.pt", data))


def test_without_a_byteorder_it_is_little(torch_files, tmp_path):
    data = torch_files.zipped({"w": six(torch_files)}, {"0": SIX.tobytes()}, order=None)
    state, _ = checkpoint.read(written(tmp_path / "a.pt", data))
    np.testing.assert_array_equal(state["w"], SIX.reshape(2, 3))


# -- where the weights lie ------------------------------------------------------------------------


def nested(layout, value):
    return layout.write(value, {"0": (6, SIX.tobytes())})


def test_the_only_weights_are_found_wherever_they_are(layout):
    value = {"epoch": 3, "nets": {"first": {"w": layout.tensor("0", "f4", 6, (6,)), "n": 1}}}
    state, key = checkpoint.read(nested(layout, value))
    assert (key, list(state)) == ("nets/first", ["w"])


def test_one_of_several_is_chosen_by_key_or_by_its_usual_name(layout):
    w, v = (layout.tensor("0", "f4", 6, (n,)) for n in (6, 2))
    value = {"state_dict_backbone": {"w": w}, "state_dict_fam": {"v": v}}
    path = nested(layout, value)
    with pytest.raises(UsageError, match=r"state_dict_backbone \(1 tensors\).*--key="):
        checkpoint.read(path)
    assert checkpoint.read(path, "state_dict_fam")[0].keys() == {"v"}
    with pytest.raises(UsageError, match="did you mean 'state_dict_fam'"):
        checkpoint.read(path, "state_dict_fan")
    value = {"optimizer": {"state": {"a": {"m": v}}}, "state_dict": {"w": w}}
    assert checkpoint.read(nested(layout, value))[1] == "state_dict"


def test_optimiser_states_of_numbered_parameters_are_no_weights(layout):
    v = layout.tensor("0", "f4", 6, (2,))
    value = {"net": {"w": layout.tensor("0", "f4", 6, (6,))}, "optimizer": {"state": {0: {"m": v}}}}
    assert checkpoint.read(nested(layout, value))[1] == "net"


def test_what_stands_beside_the_weights_is_left_out(layout, torch_files):
    call, name = torch_files.Call, torch_files.name
    value = {
        "state_dict": {"w": layout.tensor("0", "f4", 6, (6,))},
        "best": call("numpy.core.multiarray.scalar", call("numpy.dtype", "f8", False, True),
                     call("_codecs.encode", "00000000", "latin1")),
        "schedule": call("collections.Counter", {12: 1}),
        "lists": torch_files.Raw(
            name("collections.defaultdict").code + name("builtins.list").code + b"\x85RK\x01]s"
        ),
        "hyper": torch_files.Raw(name("argparse.Namespace").code + b")\x81}X\x02\0\0\0lrK\x01sb"),
        "dtype": name("torch.float32"),
        "place": call("torch.device", "cpu"),
    }  # fmt: skip
    state, key = checkpoint.read(nested(layout, value))
    assert (key, list(state)) == ("state_dict", ["w"])


def test_names_that_the_user_declares_inert_may_stand_in_it(layout, torch_files):
    value = {
        "state_dict": {"w": layout.tensor("0", "f4", 6, (6,))},
        "callbacks": torch_files.Call("my.Best", {"file": "x"}),
        "list": torch_files.Raw(torch_files.name("my.Best").code + b")\x81K\x01aK\x02K\x03s"),
    }
    path = nested(layout, value)
    with pytest.raises(FacebenchError, match=r"'my\.Best'.*--inert="):
        checkpoint.read(path)
    assert checkpoint.read(path, inert=["my.Best"])[1] == "state_dict"


def test_no_weights_at_all(layout):
    with pytest.raises(FacebenchError, match="holds no state dict"):
        checkpoint.read(nested(layout, {"epoch": 3}))
    with pytest.raises(FacebenchError, match="holds no state dict"):
        checkpoint.read(nested(layout, [1, 2]))


# -- what a pickle may not do ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "what",
    [
        "os.system",
        "posix.system",
        "builtins.eval",
        "__builtin__.exec",
        "subprocess.Popen",
        "torch.load",
        "torch._utils._rebuild_tensor_v3",
        "torch.hub.load",
        "collections.OrderedDict.fromkeys",
        "my.net.Net",
    ],
)
def test_a_name_that_is_not_on_the_list_is_refused_and_nothing_runs(
    layout, torch_files, tmp_path, what
):
    trap = tmp_path / "ran"
    for value in (
        torch_files.Call(what, f"touch {trap}"),
        {"w": layout.tensor("0", "f4", 6, (6,)), "x": torch_files.name(what)},
        torch_files.Raw(torch_files.name(what).code + b")\x81"),
    ):
        with pytest.raises(FacebenchError, match=what.rsplit(".", 1)[0]):
            checkpoint.read(nested(layout, value))
    assert not trap.exists()


def test_the_newer_instruction_for_names_is_held_to_the_same_list(layout, torch_files):
    value = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R."
    with pytest.raises(FacebenchError, match=r"'os\.system'"):
        checkpoint.read(nested(layout, value))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (b"(S'ls'\nios\nsystem\n.", "which no checkpoint has"),  # INST
        (b"(cos\nsystem\nX\x01\0\0\0lo.", "os.system"),  # OBJ
        (b"\x80\x02\x82\x01.", "which no checkpoint has"),  # EXT1
        (b"\x80\x02Pid\n.", "which no checkpoint has"),  # PERSID
        (b"\x80\x02}}b.", None),  # the attributes of a dict are dropped
        (b"\x80\x02K\x01}b.", "broken at BUILD"),
        (b"\x80\x02K\x01)R.", "broken at REDUCE"),
        (b"\x80\x02X\x02\0\0\0ls)R.", "broken at REDUCE"),
        (b"\x80\x02h\x05.", "broken at BINGET"),
        (b"\x80\x02t.", "broken at TUPLE"),
        (b"\x80\x02R.", "broken at REDUCE"),
        (b"\x80\x02(R.", "broken at REDUCE"),
        (b"\x80\x02}K\x01s.", "broken at SETITEM"),
        (b"\x80\x02}]K\x01s.", "list as a key"),
        (b"\x80\x02)K\x01a.", "broken at APPEND"),
        (b"\x80\x02NN.", "more or less than one value"),
        (b"\x80\x02.", "more or less than one value"),
        (b"\x80\x02N", "not read"),
        (b"\x80\x02\xff.", "not read"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "not read"),
        (b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7fabc.", "not read"),
        (b"\x80\x02\x8b\xff\xff\xff\x7fabc.", "not read"),
        (b"", "not read"),
    ],
)
def test_what_no_checkpoint_does(torch_files, tmp_path, code, said):
    path = written(tmp_path / "a.pt", torch_files.zipped(code, {}))
    with pytest.raises(FacebenchError, match=said or "holds no state dict"):
        checkpoint.read(path)


def test_a_large_memory_index_costs_no_memory(torch_files, tmp_path):
    code = b"\x80\x02}r\xff\xff\xff\xff."
    path = written(tmp_path / "a.pt", torch_files.zipped(code, {}))
    tracemalloc.start()
    with pytest.raises(FacebenchError, match="no state dict"):
        checkpoint.read(path)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_dicts_that_hold_each_other_many_times_are_walked_once(torch_files, tmp_path):
    """Four levels of 300 references each would be 8 thousand million walks."""
    code = b"}q\x00"
    for level in range(4):
        again = b"".join(b"X\x03\0\0\0%03dh%c" % (i, level) for i in range(1, 300))
        code = b"}(X\x03\x00\x00\x00000" + code + again + b"uq%c" % (level + 1)
    path = written(tmp_path / "a.pt", torch_files.zipped(b"\x80\x02" + code + b".", {}))
    with pytest.raises(FacebenchError, match="no state dict"):
        checkpoint.read(path)


def test_a_pickle_larger_than_any_checkpoints_is_not_read(torch_files, tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "MAX_PICKLE", 50)
    for data in (
        torch_files.zipped({"w" * 100: 1}, {}),
        torch_files.legacy({"w" * 100: 1}, {}),
    ):
        with pytest.raises(FacebenchError, match=r"at most|more than 50"):
            checkpoint.read(written(tmp_path / "a.pt", data))


# -- tensors that lie -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "said"),
    [
        ((2, 3), (3, 1), 1, "reaches number 6 of a storage of 6"),
        ((7,), (1,), 0, "reaches number 6"),
        ((2,), (6,), 0, "reaches number 6"),
        ((1,), (1,), 6, "reaches number 6"),
        ((1 << 40,), (0,), 0, "repeats"),
        ((3, 3), (0, 1), 0, "repeats"),
        ((1 << 30, 1 << 30, 1 << 30), (0, 0, 0), 0, "repeats"),
        ((1 << 60, 0), (1, 1), 0, "offset, shape and strides"),
        ((2,), (-1,), 3, "offset, shape and strides"),
        ((-2,), (1,), 0, "offset, shape and strides"),
        ((2,), (1,), -1, "offset, shape and strides"),
        ((2, 3), (1,), 0, "2 sizes, 1 strides"),
        ((True,), (1,), 0, "offset, shape and strides"),
        ((2.0,), (1,), 0, "offset, shape and strides"),
        ((1,) * 33, (1,) * 33, 0, "33 sizes"),
    ],
)
def test_a_tensor_beyond_its_storage(layout, shape, strides, offset, said):
    value = {"w": layout.tensor("0", "f4", 6, shape, strides, offset)}
    with pytest.raises(FacebenchError, match=said):
        checkpoint.read(nested(layout, value))


def test_views_that_are_conjugate_or_negative(layout):
    storages = {"0": (6, SIX.tobytes())}
    for further, fails in ((({},), False), ((None,), False), (({"neg": True},), True)):
        value = {"w": layout.tensor("0", "f4", 6, (6,), further=further)}
        path = layout.write(value, storages)
        if fails:
            with pytest.raises(FacebenchError, match=r"negative view; save a \.clone"):
                checkpoint.read(path)
        else:
            np.testing.assert_array_equal(checkpoint.read(path)[0]["w"], SIX)


def test_a_storage_of_another_size_than_its_tensors_claim(layout):
    value = {"w": layout.tensor("0", "f4", 8, (8,))}
    with pytest.raises(FacebenchError, match="claim"):
        checkpoint.read(nested(layout, value))
    value = {"w": layout.tensor("0", "f4", 4, (4,))}
    with pytest.raises(FacebenchError, match=r"has 24 bytes, expected 16|has 6 numbers"):
        checkpoint.read(nested(layout, value))
    value = {"w": layout.tensor("0", "f4", 6, (6,)), "v": layout.tensor("0", "f8", 6, (6,))}
    with pytest.raises(FacebenchError, match="claimed in two"):
        checkpoint.read(nested(layout, value))


def test_a_storage_that_is_not_there(torch_files, tmp_path):
    value = {"w": torch_files.tensor("../../../../etc/passwd", "f4", 6, (6,))}
    data = torch_files.zipped(value, {"0": SIX.tobytes()})
    with pytest.raises(FacebenchError, match="is not in the file"):
        checkpoint.read(written(tmp_path / "a.pt", data))
    data = torch_files.legacy(value, {}, order=[])
    with pytest.raises(FacebenchError, match="is not in the file"):
        checkpoint.read(written(tmp_path / "b.pt", data))


@pytest.mark.parametrize(
    "claim",
    [
        lambda f: "0",
        lambda f: ("storage", f.name("torch.FloatStorage"), "0", "cpu"),
        lambda f: ("module", f.name("torch.FloatStorage"), "0", "cpu", 6),
        lambda f: ("storage", f.name("torch.Size"), "0", "cpu", 6),
        lambda f: ("storage", "torch.FloatStorage", "0", "cpu", 6),
        lambda f: ("storage", f.name("torch.FloatStorage"), 0, "cpu", 6),
        lambda f: ("storage", f.name("torch.FloatStorage"), "0", "cpu", -6),
        lambda f: ("storage", f.name("torch.FloatStorage"), "0", "cpu", 1 << 60),
        lambda f: ("storage", f.name("torch.FloatStorage"), "0", "cpu", 6, ("1", 0, 6)),
    ],
)
def test_a_claim_of_a_storage_that_is_none(torch_files, tmp_path, claim):
    value = {"w": six(torch_files, claim=claim(torch_files))}
    path = written(tmp_path / "a.pt", torch_files.zipped(value, {"0": SIX.tobytes()}))
    with pytest.raises(FacebenchError, match="a tensor's storage is"):
        checkpoint.read(path)


# -- archives that lie ----------------------------------------------------------------------------


def test_a_compressed_archive_is_refused_before_it_is_unpacked(torch_files, tmp_path):
    value = {"w": torch_files.tensor("0", "f4", 1 << 20, (1 << 20,))}
    data = torch_files.zipped(value, {"0": bytes(4 << 20)}, method=zipfile.ZIP_DEFLATED)
    assert len(data) < 1 << 14
    with pytest.raises(FacebenchError, match="is compressed"):
        checkpoint.read(written(tmp_path / "a.pt", data))


def directory_changed(data, member, field, value):
    """The archive with a number of a member's entry in the central directory replaced."""
    at = data.rindex(member) - 46
    assert data[at : at + 4] == b"PK\x01\x02"
    return data[: at + field] + struct.pack("<I", value) + data[at + field + 4 :]


def test_members_that_claim_more_than_the_file_has(torch_files, tmp_path):
    data = torch_files.zipped({"w": six(torch_files)}, {"0": SIX.tobytes()})
    for field in (20, 24):  # packed size, size
        data = directory_changed(data, b"archive/data/0", field, 1 << 30)
    with pytest.raises(FacebenchError, match="claim"):
        checkpoint.read(written(tmp_path / "a.pt", data))


def test_members_that_lie_on_one_another_cannot_claim_more_than_the_file(torch_files, tmp_path):
    """Many entries of one run of bytes: the way of the densest archive bombs."""
    extra = [(f"archive/data/{i}", b"") for i in range(1, 10)]
    data = torch_files.zipped({"w": six(torch_files)}, {"0": bytes(4096)}, extra=extra)
    for i in range(1, 10):
        for field, value in ((20, 4096), (24, 4096), (42, data.index(b"archive/data/0") - 30)):
            data = directory_changed(data, b"archive/data/%d" % i, field, value)
    with pytest.raises(FacebenchError, match="claim"):
        checkpoint.read(written(tmp_path / "a.pt", data))


def test_archives_that_are_no_checkpoint(torch_files, tmp_path):
    value, held = {"w": six(torch_files)}, {"0": SIX.tobytes()}
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = torch_files.zipped(value, held, extra=[("archive/data/0", b"")])
    two = torch_files.zipped(value, held, extra=[("other/data.pkl", b"")])
    none = torch_files.zipped(value, held, root="a/b")
    script = torch_files.zipped(value, held, extra=[("archive/constants.pkl", b"")])
    for data, said in (
        (twice, "stands twice"),
        (two, "2 members NAME/data.pkl"),
        (none, "0 members NAME/data.pkl"),
        (script, "TorchScript"),
    ):
        with pytest.raises(FacebenchError, match=said):
            checkpoint.read(written(tmp_path / "a.pt", data))


def test_paths_in_an_archive_lead_nowhere(torch_files, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    extra = [("../escaped", b"x"), ("/tmp/facebench-escaped", b"x")]
    data = torch_files.zipped({"w": six(torch_files)}, {"0": SIX.tobytes()}, extra=extra)
    state, _ = checkpoint.read(written(tmp_path / "in/a.pt", data))
    assert state.keys() == {"w"}
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.pt", "in"]


def test_a_changed_byte_of_a_storage_is_noticed(torch_files, tmp_path):
    data = bytearray(torch_files.zipped({"w": six(torch_files)}, {"0": SIX.tobytes()}))
    data[data.index(SIX.tobytes())] ^= 1
    with pytest.raises(FacebenchError, match="CRC"):
        checkpoint.read(written(tmp_path / "a.pt", data))


def test_older_files_that_are_no_checkpoint(torch_files, tmp_path):
    value, held = {"w": six(torch_files)}, {"0": (6, SIX.tobytes())}
    for data, said in (
        (torch_files.legacy(value, held, magic=7), "no PyTorch checkpoint"),
        (torch_files.legacy(value, held, version=1002), "layout 1002"),
        (torch_files.legacy(value, held, order=["0", "0"]), "listed twice"),
        (torch_files.legacy(value, held, order=["1"]), "no tensor is a part"),
        (torch_files.legacy(value, held, order=3), "list of its storages"),
        (torch_files.legacy(value, {"0": (1 << 40, b"")}), "has 1099511627776 numbers"),
        (torch_files.legacy(value, held)[:-1], "truncated"),
        (torch_files.pickled({"w": [1.0]}), "no PyTorch checkpoint"),
    ):
        with pytest.raises(FacebenchError, match=said):
            checkpoint.read(written(tmp_path / "a.pt", data))


def test_other_files(tmp_path):
    tar = bytes(257) + b"ustar\0" + bytes(300)
    for data, said in ((tar, "tar archive"), (b"GIF89a", "neither"), (b"", "neither")):
        with pytest.raises(FacebenchError, match=said):
            checkpoint.read(written(tmp_path / "a.pt", data))
    with pytest.raises(FacebenchError, match="no such file"):
        checkpoint.read(tmp_path / "absent.pt")
    with pytest.raises(FacebenchError, match="folder"):
        checkpoint.read(tmp_path)


def test_every_cut_and_many_changes_are_read_or_refused(layout, tmp_path):
    """Whatever bytes there are, the outcome is arrays inside the file or one explained error."""
    value = {"state_dict": {"w": layout.tensor("0", "f4", 6, (2, 3)), "epoch": 2}}
    whole = layout.write(value, {"0": (6, SIX.tobytes())}).read_bytes()
    rng, refused = random.Random(0), 0
    cases = [whole[:n] for n in range(0, len(whole), 3)]
    for _ in range(400):
        changed = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            changed[rng.randrange(len(whole))] = rng.randrange(256)
        cases.append(bytes(changed))
    for data in cases:
        path = written(tmp_path / "b.pt", data)
        try:
            state, _ = checkpoint.read(path)
        except FacebenchError:
            refused += 1
        else:
            assert sum(a.nbytes for a in state.values()) <= len(data)
    assert len(cases) - 400 <= refused < len(cases)


def test_only_what_is_chosen_is_read(torch_files, tmp_path):
    value = {"a": six(torch_files), "b": torch_files.tensor("1", "f4", 9, (9,))}
    path = written(tmp_path / "a.pt", torch_files.zipped(value, {"0": SIX.tobytes()}))
    got = torchfile.read(path, lambda held: {"a": held["a"]})
    np.testing.assert_array_equal(got["a"], SIX.reshape(2, 3))
    with pytest.raises(FacebenchError, match="'1' is not in the file"):
        torchfile.read(path, lambda held: {"b": held["b"]})
