"""RecordIO against published bytes and against a writer of this file's own."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facebench.errors import FacebenchError
from facebench.formats import recordio

MAGIC = bytes.fromhex("0a23d7ce")
JPEG = b"\xff\xd8\xff\xe0 a face"

# label 7, id 5, body ff d8; the header record of ten images and three identities; a body that
# holds the magic where it is cut
WHOLE = "0a23d7ce1a000000 00000000 0000e040 0500000000000000 0000000000000000 ffd8 0000"
ZERO = "0a23d7ce20000000 02000000 00000000 0000000000000000 0100000000000000 00003041 00006041"
CUT = (
    "0a23d7ce18000020 00000000 0000e040 0500000000000000 00000000000000000a23d7ce02000060 6162 0000"
)


def image_record(label, number, body=JPEG, id2=0):
    """The content of a record: header, labels, image."""
    if isinstance(label, (list, tuple)):
        head = struct.pack("<IfQQ", len(label), 0.0, number, id2)
        return head + struct.pack(f"<{len(label)}f", *label) + body
    return struct.pack("<IfQQ", 0, label, number, id2) + body


def framed(content):
    """Content as the official writer cuts it: one aligned word after the other."""
    pieces, begin = [], 0
    for at in range(0, len(content) - 3, 4):
        if content[at : at + 4] == MAGIC:
            pieces.append(content[begin:at])
            begin = at + 4
    pieces.append(content[begin:])
    made = b""
    for i, piece in enumerate(pieces):
        last = i == len(pieces) - 1
        kind = (0 if last else 1) if i == 0 else 3 if last else 2
        made += MAGIC + struct.pack("<I", kind << 29 | len(piece)) + piece
        made += b"\0" * (-len(piece) % 4)
    return made


def write(folder, records, idx=True):
    """Writes train.rec and train.idx from (key, content)."""
    rec, lines, place = folder / "train.rec", [], 0
    with rec.open("wb") as file:
        for key, content in records:
            lines.append(f"{key}\t{place}\n")
            place += file.write(framed(content))
    if idx:
        (folder / "train.idx").write_text("".join(lines))
    return rec, folder / "train.idx"


def release(classes=(3, 1, 2), order=None):
    """insightface's layout: images from key 1, a record for each identity, record 0 at the end."""
    labels = [c for c, n in enumerate(classes) for _ in range(n)]
    images = [
        (k, image_record(float(c), k, JPEG + bytes([k]))) for k, c in enumerate(labels, start=1)
    ]
    first, ranges = 1, []
    for n in classes:
        ranges.append((float(first), float(first + n)))
        first += n
    count = len(labels)
    people = [(count + 1 + i, image_record(r, count + 1 + i, b"")) for i, r in enumerate(ranges)]
    zero = image_record((count + 1.0, count + len(classes) + 1.0), 0, b"", id2=1)
    return [*images, *people, (0, zero)]


# ------------------------------------------------------------------------------- published bytes


def test_bytes_of_a_whole_record(tmp_path):
    (tmp_path / "a.rec").write_bytes(bytes.fromhex(WHOLE))
    ((key, header, body),) = recordio.read(tmp_path / "a.rec")
    assert (key, header.flag, header.id, header.id2) == (5, 0, 5, 0)
    assert header.label.dtype == np.float32
    assert header.label.tolist() == [7.0]
    assert body == b"\xff\xd8"
    assert framed(image_record(7.0, 5, b"\xff\xd8")) == bytes.fromhex(WHOLE)


def test_bytes_of_record_zero(tmp_path):
    (tmp_path / "a.rec").write_bytes(bytes.fromhex(ZERO))
    ((key, header, body),) = recordio.read(tmp_path / "a.rec")
    assert (key, header.flag, header.id, header.id2, body) == (0, 2, 0, 1, b"")
    assert header.label.tolist() == [11.0, 14.0]


def test_the_magic_within_a_record_comes_back(tmp_path):
    (tmp_path / "a.rec").write_bytes(bytes.fromhex(CUT))
    ((_, header, body),) = recordio.read(tmp_path / "a.rec")
    assert header.label.tolist() == [7.0]
    assert body.hex() == "0a23d7ce6162"
    assert framed(image_record(7.0, 5, body)) == bytes.fromhex(CUT)


def test_a_header_may_be_cut_too(tmp_path):
    rec, idx = write(tmp_path, [(4, image_record([3.0, 1.0], 0xCED7230A, JPEG + MAGIC))])
    assert rec.read_bytes()[:8].hex() == "0a23d7ce08000020"  # flag and label, then the id is gone
    ((_, header, body),) = recordio.read(rec)
    assert (header.flag, header.id, header.label.tolist()) == (2, 0xCED7230A, [3.0, 1.0])
    assert body == JPEG + MAGIC
    assert recordio.identity_layout(rec, idx).identity.tolist() == [3]


# ------------------------------------------------------------------------------------ round trips

bodies = st.lists(st.one_of(st.binary(max_size=9), st.just(MAGIC), st.just(b"\0")), max_size=8).map(
    b"".join
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            bodies,
            st.one_of(
                st.floats(width=32, allow_nan=False),
                st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=4),
            ),
            st.integers(0, 2**64 - 1),
        ),
        max_size=6,
    )
)
def test_what_was_written_is_read(tmp_path_factory, entries):
    folder = tmp_path_factory.mktemp("rec")
    records = [(k, image_record(label, n, body)) for k, (body, label, n) in enumerate(entries)]
    rec, idx = write(folder, records)
    found = list(recordio.read(rec))
    assert [(h.id, b) for _, h, b in found] == [(n, b) for b, _, n in entries]
    for (_, header, _), (_, label, _) in zip(found, entries, strict=True):
        labels = label if isinstance(label, list) else [label]
        assert header.flag == (len(label) if isinstance(label, list) else 0)
        assert header.label.tolist() == labels
    if not entries:
        return
    by_key = {key: (h.id, b) for key, h, b in recordio.read(rec, idx)}
    assert by_key == {k: (n, body) for k, (body, _, n) in enumerate(entries)}
    keys, offsets = recordio.index(idx)
    with recordio.Records(rec) as records_of:
        for key, offset in reversed(list(zip(keys, offsets, strict=True))):
            header, body = records_of.read(offset)
            assert (header.id, body) == by_key[key]
            flag, labels, number, has_image, _ = records_of.brief(offset)
            assert (flag, number, has_image) == (header.flag, header.id, bool(body))
            assert list(labels) == header.label[:2].tolist()


def test_an_index_may_leave_records_out(tmp_path):
    rec, idx = write(tmp_path, [(k, image_record(0.0, k, bytes([k]))) for k in range(5)])
    lines = idx.read_text().splitlines(keepends=True)
    idx.write_text(lines[3] + lines[1])
    assert [(k, b) for k, _, b in recordio.read(rec, idx)] == [(1, b"\1"), (3, b"\3")]


# ---------------------------------------------------------------------------------------- layouts


@pytest.mark.parametrize("with_index", [True, False])
def test_identity_layout(tmp_path, with_index):
    rec, idx = write(tmp_path, release((3, 1, 2)))
    layout = recordio.identity_layout(rec, idx if with_index else None)
    assert layout.kind == "identity"
    assert layout.keys.tolist() == [1, 2, 3, 4, 5, 6]
    assert layout.identity.tolist() == [0, 0, 0, 1, 2, 2]
    with recordio.Records(rec) as records:
        images = [records.read(offset)[1] for offset in layout.offsets]
    assert images == [JPEG + bytes([k]) for k in range(1, 7)]


def test_identity_layout_in_any_order(tmp_path):
    records = release((2, 2, 1))
    np.random.default_rng(0).shuffle(records)
    layout = recordio.identity_layout(*write(tmp_path, records))
    assert layout.keys.tolist() == [1, 2, 3, 4, 5]
    assert layout.identity.tolist() == [0, 0, 1, 1, 2]


def test_sequential_layout(tmp_path):
    records = [(k, image_record(float(k // 2), k)) for k in range(5)]
    layout = recordio.identity_layout(*write(tmp_path, records))
    assert layout.kind == "sequential"
    assert layout.keys.tolist() == [0, 1, 2, 3, 4]
    assert layout.identity.tolist() == [0, 0, 1, 1, 2]


def test_the_first_of_several_labels_is_the_identity(tmp_path):
    records = [(k, image_record([float(9 - k), 0.5] + [1.0] * 12, k)) for k in range(4)]
    layout = recordio.identity_layout(*write(tmp_path, records))
    assert layout.identity.tolist() == [9, 8, 7, 6]


def test_key_ranges_above_float32_are_compared_as_stored():
    images = 2**24 + 2
    stored = float(np.float32(images + 1))
    assert stored != images + 1  # the header of such a set cannot say how many images there are
    layout = recordio.Layout(
        "identity", np.arange(1, images + 1), np.arange(images), np.zeros(images, np.int32)
    )
    layout.identity[-1:] = 1
    zero = (stored, float(np.float32(images + 3)))
    ranges = [(images + 1, (1.0, float(np.float32(images)))), (images + 2, (float(images), stored))]
    recordio._check_ranges("train.idx", layout, zero, ranges)
    zero = (stored - 2, zero[1])
    with pytest.raises(FacebenchError, match="record 0 says"):
        recordio._check_ranges("train.idx", layout, zero, ranges)


# --------------------------------------------------------------------------------------- refusals


def broken(tmp_path, change):
    rec, idx = write(tmp_path, [(k, image_record(0.0, k, b"123456")) for k in range(3)])
    data = bytearray(rec.read_bytes())
    assert len(data) == 3 * 40
    rec.write_bytes(bytes(change(data) or data))
    return rec, idx


def put(at, value):
    def change(data):
        data[at : at + len(value)] = value

    return change


def kind(at, number):
    return put(at + 7, bytes([number << 5]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put(40, b"\0"), "offset 40: bad magic 0023d7ce, expected 0a23d7ce"),
        (lambda data: data[:-1], "offset 80: truncated part: it says 30 bytes"),
        (lambda data: data[:85], "offset 80: truncated: the file ends after 5 of the 8 bytes"),
        (put(44, b"\xff\xff"), "offset 40: truncated part: it says 65535 bytes"),
        (kind(40, 3), "offset 40: the last part of a record, expected a whole record"),
        (kind(40, 2), "offset 40: the middle part of a record, expected a whole record"),
        (kind(0, 1), "offset 40: the whole part of a record, expected a middle or last one"),
        (kind(80, 1), "offset 80: truncated: the file ends before the record's last part"),
        (kind(40, 5), "offset 40: a part of kind 5"),
        (put(48, b"\3"), "offset 40: a record that says it has 3 labels"),
        (put(4, b"\x10"), "offset 0: a record of 16 bytes, expected a header of 24"),
    ],
)
def test_broken_files_are_refused_by_place(tmp_path, change, said):
    rec, _ = broken(tmp_path, change)
    with pytest.raises(FacebenchError, match=f"train.rec: {said}") as error:
        list(recordio.read(rec))
    assert "\n" not in str(error.value)
    with pytest.raises(FacebenchError, match=f"train.rec: {said}"):
        recordio.identity_layout(rec)


def test_large_records_are_refused_before_they_are_read(tmp_path):
    rec, _ = write(tmp_path, [(0, image_record(0.0, 0, b"x" * 5000 + MAGIC + b"x" * 5000))])
    assert len(list(recordio.read(rec, limit=10_028 + 4))) == 1
    with pytest.raises(FacebenchError, match="offset 0: a record of more than 9000 bytes"):
        list(recordio.read(rec, limit=9000))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("0\t0\n1\t120\n", "key 1 points to offset 120, outside of .*train.rec, which has 120"),
        ("0\t0\n1\t44\n", "key 1: .*train.rec: offset 44: bad magic"),
        ("0\t0\n1\t40\n0\t80\n", "key 0 stands twice, in lines 1 and 3"),
        ("0\t0\n1\t40\n2\t40\n", "offset 40 stands twice, in lines 2 and 3"),
        ("0\t0\n1 x\n", "line 2: found 'x', expected 2 whole numbers"),
        ("0\t0\n1\n", "line 2: found '1', expected 2 whole numbers"),
        ("0\t-4\n", "line 1: found '-4'"),
        ("", "is empty"),
    ],
)
def test_broken_indexes_are_refused_by_line_or_key(tmp_path, lines, said):
    rec, idx = broken(tmp_path, lambda data: None)
    idx.write_text(lines)
    with pytest.raises(FacebenchError, match=f"train.idx: {said}"):
        list(recordio.read(rec, idx))


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (float(2**24), "label 16777216 is no identity: float32 labels do not hold"),
        (0.5, "label 0.5 is no identity: expected a whole number"),
        (-1.0, "label -1 is no identity"),
        (float("nan"), "label nan is no identity"),
        (float("inf"), "label inf is no identity"),
        ([3e7, 1.0], "label 30000000 is no identity: float32"),
    ],
)
def test_labels_that_are_no_identities_are_refused(tmp_path, label, said):
    records = [(0, image_record(2.0**24 - 1, 0)), (1, image_record(label, 1))]
    rec, idx = write(tmp_path, records)
    with pytest.raises(FacebenchError, match=f"train.rec: record 1 at offset [0-9]+: {said}"):
        recordio.identity_layout(rec, idx)


def changed(records, key, content):
    return [(k, content if k == key else c) for k, c in records]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r[1:], "record 0 says images have the keys 1 to 7 - 1.*found 5 images"),
        (lambda r: [e for e in r if e[0] != 8], "found 6 images and 2 identities"),
        (
            lambda r: [e for e in r if e[0] != 3] + [(40, image_record(0.0, 40))],
            "there is no image with key 3",
        ),
        (lambda r: r[:-1], "record 7 describes other records, and there is no record 0"),
        (lambda r: changed(r, 3, image_record(1.0, 3)), "record 7 says images 1 to 3 show one"),
        (lambda r: changed(r, 8, image_record((4.0, 9.0), 8, b"")), "record 8 names the images 4"),
        (lambda r: changed(r, 8, image_record((4.5, 5.0), 8, b"")), "record 8 names the images"),
        (lambda r: changed(r, 8, image_record([4.0], 8, b"")), "record 8 has one label"),
        (lambda r: changed(r, 0, image_record([7.0], 0, b"")), "record 0 has one label"),
        (lambda r: changed(r, 2, image_record(0.0, 2, b"")), "record 2 .*no image in it"),
    ],
)
def test_layouts_that_contradict_themselves_are_refused(tmp_path, change, said):
    rec, idx = write(tmp_path, change(release((3, 1, 2))))
    with pytest.raises(FacebenchError, match=said):
        recordio.identity_layout(rec, idx)


def test_without_an_index_ids_must_differ(tmp_path):
    rec, idx = write(tmp_path, [(0, image_record(0.0, 4)), (1, image_record(0.0, 4))])
    assert recordio.identity_layout(rec, idx).keys.tolist() == [0, 1]
    with pytest.raises(FacebenchError, match="two records have the id 4"):
        recordio.identity_layout(rec)


def test_empty_and_missing_files(tmp_path):
    (tmp_path / "a.rec").write_bytes(b"")
    with pytest.raises(FacebenchError, match="there is no image in it"):
        recordio.identity_layout(tmp_path / "a.rec")
    with pytest.raises(FacebenchError, match="no such file"):
        list(recordio.read(tmp_path / "b.rec"))
    with pytest.raises(FacebenchError, match="folder"):
        list(recordio.read(tmp_path))
