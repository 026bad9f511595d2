"""The softmax that is cut over devices: the dense one, reference vectors, memory and traffic."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facebench.errors import UsageError
from facebench.losses import margin, partial_fc, sharded
from facebench.train import partition

B, D, C = 16, 24, 203
MESHES = {
    "one": (1, {}),
    "two": (2, {}),
    "eight": (8, {}),
    "model": (8, {"model": 8}),
    "mixed": (8, {"fsdp": 2, "model": 2}),
}


def mesh_of(name):
    devices, shape = MESHES[name]
    shape = {"data": -1, "fsdp": 1, "model": 1} | shape
    return partition.make_mesh(shape, jax.devices()[:devices])


def arcface(own):
    return margin.add_angle(own, 0.5)


def straight_through(own):
    """ArcFace whose gradient is that of the cosine."""
    angle = jnp.arccos(jnp.clip(own, -1.0, 1.0))
    return own + jax.lax.stop_gradient(jnp.cos(angle + 0.5) - own)


def draw(classes=C, width=None, seed=0):
    rng = np.random.default_rng(seed)
    kernel = np.zeros((D, width or classes), np.float32)
    kernel[:, :classes] = rng.normal(size=(D, classes))
    embedding = rng.normal(size=(B, D)).astype(np.float32)
    label = rng.integers(0, classes, B).astype(np.int32)
    label[3] = -1
    return embedding, kernel, label, jnp.asarray(rng.uniform(0.5, 1.5, B), jnp.float32)


def with_gradient(loss, embedding, kernel, weight):
    @jax.jit
    def run(embedding, kernel):
        value, pullback = jax.vjp(loss, embedding, kernel)
        return value, *pullback(weight)

    return [np.asarray(x) for x in run(embedding, kernel)]


def near(got, want, tolerance=5e-6):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=tolerance * np.abs(want).max())


@pytest.mark.parametrize(
    ("mesh", "width", "block"),
    [
        ("one", 203, 7),
        ("two", 203, None),  # whole on both
        ("two", 206, 7),
        ("eight", 203, 7),  # whole on all
        ("eight", 208, None),
        ("eight", 208, 7),
        ("model", 208, 7),
        ("mixed", 206, 7),  # cut over the axis model alone
        ("mixed", 208, 26),
    ],
)
def test_value_and_gradient_equal_the_dense_computation(mesh, width, block):
    embedding, kernel, label, weight = draw(width=width)

    def dense(e, w):
        cosine = jnp.matmul(sharded.unit(e), sharded.unit(w, 0), precision="highest")
        logits = margin.margin_logits(cosine, label, "arcface", 0.5, 64.0)
        return margin.cross_entropy(logits, label, 0.1)

    def cut(e, w):
        return sharded.margin_softmax(
            e, w, label, arcface, s=64.0, classes=C, smoothing=0.1, block=block, mesh=mesh_of(mesh)
        ).loss

    want = with_gradient(dense, embedding, kernel[:, :C], weight)
    got = with_gradient(cut, embedding, kernel, weight)
    assert got[0][3] == 0
    assert not got[1][3].any()
    assert not got[2][:, C:].any()
    got[2] = got[2][:, :C]
    for x, y in zip(got, want):
        near(x, y)


@pytest.mark.parametrize("mesh", ["one", "two", "eight"])
def test_the_scale_may_be_the_length_of_the_embedding(mesh):
    embedding, kernel, label, weight = draw(classes=208)

    def dense(e, w):
        s = jnp.sqrt((e**2).sum(1))
        cosine = jnp.matmul(sharded.unit(e), sharded.unit(w, 0), precision="highest")
        return margin.cross_entropy(s[:, None] * cosine, label, 0.1)

    def cut(e, w):
        s = jnp.sqrt((e**2).sum(1))
        return sharded.margin_softmax(
            e, w, label, lambda own: own, s=s, smoothing=0.1, block=9, mesh=mesh_of(mesh)
        ).loss

    want = with_gradient(dense, embedding, kernel, weight)
    for x, y in zip(with_gradient(cut, embedding, kernel, weight), want):
        near(x, y)


@pytest.mark.parametrize("mesh", ["one", "eight"])
def test_cosines_to_the_own_class_and_to_the_nearest_other(mesh):
    embedding, kernel, label, _ = draw(width=208)
    found = jax.jit(
        lambda e, w: sharded.margin_softmax(
            e, w, label, arcface, s=9.0, classes=C, block=5, mesh=mesh_of(mesh)
        )
    )(embedding, kernel)
    cosine = embedding @ kernel[:, :C]
    cosine /= np.linalg.norm(embedding, axis=1)[:, None] * np.linalg.norm(kernel[:, :C], axis=0)
    rows = np.flatnonzero(label >= 0)
    np.testing.assert_allclose(found.own[rows], cosine[rows, label[rows]], atol=1e-6)
    cosine[rows, label[rows]] = -np.inf
    np.testing.assert_allclose(found.rival, cosine.max(1), atol=1e-6)
    assert found.own[3] == 0


def filtered(cosine, own, threshold):
    return jnp.where(cosine > threshold, 0.0, cosine)


PFC = {
    "arcface_s64_m05": (straight_through, None),
    "cosface_s64_m04": (lambda own: own - 0.4, None),
    "combined_arc_filter04": (straight_through, filtered),
}


@pytest.mark.parametrize("mesh", ["one", "eight"])
@pytest.mark.parametrize("name", sorted(PFC))
def test_equal_to_arcface_torch(oracles, name, mesh):
    vectors = np.load(oracles / f"losses/pfc_{name}.npz")
    own, others = PFC[name]
    context = () if others is None else (jnp.float32(0.4),)
    embedding, label = vectors["in_embeddings"], vectors["in_labels"].astype(np.int32)
    classes = len(vectors["in_weight"])
    kernel = np.pad(vectors["in_weight"].T, ((0, 0), (0, -classes % 8)))

    def loss(e, w):
        return sharded.margin_softmax(
            e, w, label, own, s=64.0, classes=classes, others=others, context=context,
            mesh=mesh_of(mesh),
        ).loss  # fmt: skip

    weight = jnp.full(len(label), 1 / len(label))
    each, d_embedding, d_kernel = with_gradient(loss, embedding, kernel, weight)
    # arcface_torch reports -log(max(p, 1e-30)); its gradient is that of the unbounded loss.
    bounded = np.minimum(each, -np.log(1e-30)).mean()
    np.testing.assert_allclose(bounded, vectors["out_loss"], rtol=1e-5)
    near(d_embedding, vectors["out_grad_embeddings"], 1e-5)
    near(d_kernel[:, :classes].T, vectors["out_grad_weight"], 1e-5)


@pytest.mark.parametrize("mesh", ["one", "two", "eight"])
@pytest.mark.parametrize("rate", [10, 30, 50])
def test_equal_to_partial_fc_on_the_same_drawn_classes(oracles, rate, mesh):
    vectors = np.load(oracles / f"losses/pfc_arc_sample{rate}.npz")
    embedding, label = vectors["in_embeddings"], vectors["in_labels"].astype(np.int32)
    classes, width = len(vectors["in_weight"]), 64
    kernel = np.pad(vectors["in_weight"].T, ((0, 0), (0, width - classes)))
    kept = vectors["out_sampled_index"]
    index = np.full((8, 8), width, np.int32)
    for group in range(8):
        mine = kept[kept // 8 == group]
        index[group, 8 - len(mine) :] = mine  # empty entries may stand anywhere

    def loss(e, w):
        return sharded.margin_softmax(
            e, w, label, straight_through, s=64.0, classes=classes, index=jnp.asarray(index),
            block=3, mesh=mesh_of(mesh),
        ).loss  # fmt: skip

    weight = jnp.full(len(label), 1 / len(label))
    each, d_embedding, d_kernel = with_gradient(loss, embedding, kernel, weight)
    bounded = np.minimum(each, -np.log(1e-30)).mean()
    np.testing.assert_allclose(bounded, vectors["out_loss"], rtol=1e-5)
    near(d_embedding, vectors["out_grad_embeddings"], 1e-5)
    near(d_kernel[:, :classes].T, vectors["out_grad_weight"], 1e-5)
    undrawn = np.setdiff1d(np.arange(width), kept)
    assert not d_kernel[:, undrawn].any()


def harder(cosine, own, t):
    """CurricularFace: Huang et al., CVPR 2020, equation 4."""
    hard = cosine > margin.add_angle(own, 0.5)[:, None]
    return jnp.where(hard, cosine * (t + cosine), cosine)


@pytest.mark.parametrize("mesh", ["one", "mixed"])
def test_what_becomes_of_other_classes_may_depend_on_the_own_cosine(mesh):
    embedding, kernel, label, weight = draw(classes=208)
    label = np.abs(label)
    t = jnp.float32(0.3)

    def dense(e, w):
        cosine = jnp.matmul(sharded.unit(e), sharded.unit(w, 0), precision="highest")
        target = margin.is_target(label, 208)
        own = jnp.where(target, cosine, 0).sum(1)
        rest = harder(cosine, jax.lax.stop_gradient(own), t)
        return margin.cross_entropy(30 * jnp.where(target, arcface(own)[:, None], rest), label)

    def cut(e, w):
        return sharded.margin_softmax(
            e, w, label, arcface, s=30.0, others=harder, context=(t,), block=9, mesh=mesh_of(mesh)
        ).loss

    want = with_gradient(dense, embedding, kernel, weight)
    for x, y in zip(with_gradient(cut, embedding, kernel, weight), want):
        near(x, y)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_finite_at_cosines_of_one_at_zero_and_with_one_example_per_device(dtype):
    _, kernel, _, _ = draw(classes=208)
    label = np.arange(8, dtype=np.int32)
    # The gradient at 0 is up to s / 1e-6, which float16 cannot hold.
    tiny = (1e-2, 1e-2) if dtype == "float16" else (0, 1e-9)
    embedding = kernel[:, :8].T * np.array([1, -1, *tiny, 100, -3, 1, 1])[:, None]
    kernel[:, 7] = 0

    def loss(e, w):
        return sharded.margin_softmax(
            e, w, label, arcface, s=64.0, mesh=mesh_of("eight"), block=50
        ).loss

    given = jnp.asarray(embedding, dtype)
    each, d_embedding, d_kernel = with_gradient(loss, given, kernel, jnp.ones(8))
    assert np.isfinite(each).all()
    assert np.isfinite(np.asarray(d_embedding, np.float32)).all()
    assert np.isfinite(d_kernel).all()


def test_a_class_far_below_all_others_costs_what_it_should():
    # All cosines to other classes are 1, to the own -1: the loss is 2 s + log(C - 1), not infinite.
    kernel = np.ones((D, 208), np.float32)
    kernel[:, 5] = -1
    label = np.full(8, 5, np.int32)
    loss = jax.jit(
        lambda e, w: (
            sharded.margin_softmax(e, w, label, lambda own: own, s=64.0, mesh=mesh_of("eight")).loss
        )
    )(np.ones((8, D), np.float32), kernel)
    np.testing.assert_allclose(loss, 128 + np.log(207), rtol=1e-5)


# -- the draw ------------------------------------------------------------------------------------


def drawn(mesh, label, seed=0, classes=2000, width=2048, rate=0.3, groups=8):
    key = jax.random.key(seed)
    index = jax.jit(
        lambda key: partial_fc.sample(
            label, key, width=width, classes=classes, rate=rate, groups=groups, mesh=mesh_of(mesh)
        )
    )(key)
    return np.asarray(index)


def test_the_draw_is_the_same_on_any_number_of_devices():
    label = np.array([0, 5, 5, 1999, 700, 701, 702, -1], np.int32)
    want = drawn("one", label)
    for mesh in ("two", "eight", "mixed"):
        np.testing.assert_array_equal(drawn(mesh, label), want)
    assert (drawn("one", label, seed=1) != want).any()


def test_the_draw_keeps_the_batch_and_a_share_of_each_group():
    label = np.array([0, 5, 5, 1999, 700, 701, 702, -1], np.int32)
    index = drawn("eight", label)
    assert index.shape == (8, int(0.3 * 256))
    assert set(label) - {-1} <= set(index.ravel())
    assert (np.diff(index, axis=1) > 0).all()
    assert (index // 256 == np.arange(8)[:, None]).all()
    assert index.max() < 2000  # of the last group, 208 columns are classes


def test_the_draw_is_even_over_classes_that_are_not_in_the_batch():
    label = np.array([0, 1, 2, 3, 300, 301, 302, 303], np.int32)

    def one(key):
        index = partial_fc.sample(label, key, width=512, rate=0.25, groups=2)
        return jnp.zeros(512).at[index.ravel()].add(1.0)

    keys = jax.random.split(jax.random.key(0), 500)
    count = np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys).sum(0))(keys))
    assert (count[label] == 500).all()
    rest = np.delete(count, label) / 500
    expected = (64 - 4) / (256 - 4)  # of each group of 256, 64 are kept and 4 are the batch's
    np.testing.assert_allclose(rest, expected, atol=5 * np.sqrt(expected * (1 - expected) / 500))


def test_where_the_batch_has_more_classes_than_the_share_they_alone_are_kept():
    label = np.arange(0, 40, 2).astype(np.int32)
    draw = jax.jit(lambda key: partial_fc.sample(label, key, width=160, rate=0.1, groups=4))
    index = np.asarray(draw(jax.random.key(0)))  # the share is 4 of 40
    np.testing.assert_array_equal(index[0], label)
    assert ((index[1:] < 160).sum(1) == 4).all()


# -- memory, traffic and sizes -------------------------------------------------------------------


def compiled(classes, mesh, rate=1.0, block=None, dim=64, batch=64):
    place = mesh_of(mesh)
    width = sharded.columns(classes)
    axes = sharded.class_axes(width, place)

    def loss(e, w, label, key):
        outputs = {"embedding": e, "centres": w, "draw": key}
        return partial_fc.softmax(
            outputs, label, arcface, classes=classes, s=64.0, rate=rate, mesh=place, block=block
        ).loss.mean()

    def where(shape, dtype, *axes):
        spec = jax.sharding.NamedSharding(place, jax.sharding.PartitionSpec(*axes))
        return jax.ShapeDtypeStruct(shape, dtype, sharding=spec)

    rows = ("data", "fsdp")
    given = (
        where((batch, dim), np.float32, rows),
        where((dim, width), np.float32, None, axes),
        where((batch,), np.int32, rows),
        jax.eval_shape(lambda: jax.random.key(0)),
    )
    return jax.jit(jax.grad(loss, (0, 1))).lower(*given).compile()


@pytest.fixture(scope="module")
def memory(repository):
    import sys

    sys.path.insert(0, str(repository / "benchmarks"))
    try:
        import classifier_memory
    finally:
        sys.path.pop(0)
    return classifier_memory


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_memory_is_a_share_per_device_and_centres_are_never_moved(memory, rate):
    classes, held = 1_000_000, 4 * 64 * sharded.columns(1_000_000)
    for mesh, parts in (("one", 1), ("two", 2), ("eight", 8)):
        program = compiled(classes, mesh, rate)
        sizes = program.memory_analysis()
        # The part of the gradient is the output; beside it stand some blocks of cosines and, under
        # sampling, a few numbers per class.
        assert abs(sizes.output_size_in_bytes - held / parts) < 1e6
        most = 12 * 4 * sharded.BLOCK
        assert sizes.temp_size_in_bytes < most + (40 * classes / parts if rate < 1 else 0)
        moves = memory.collectives(program.as_text())
        assert bool(moves) == (parts > 1)
        assert all(size <= 4 * 64 * 64 for _, size in moves)  # the embeddings, 16 kB


@pytest.mark.slow
def test_without_blocks_memory_would_be_many_times_that():
    whole = compiled(200_000, "two", block=200_000).memory_analysis().temp_size_in_bytes
    blocks = compiled(200_000, "two").memory_analysis().temp_size_in_bytes
    assert whole > 4 * blocks
    assert whole > 64 * 4 * 100_000


def test_a_kernel_that_is_gathered_would_be_seen(memory):
    place = mesh_of("eight")
    spec = jax.sharding.PartitionSpec
    cut = jax.sharding.NamedSharding(place, spec(None, partition.AXES))
    whole = jax.sharding.NamedSharding(place, spec())
    kernel = jax.ShapeDtypeStruct((64, 8192), np.float32, sharding=cut)
    program = jax.jit(lambda w: w * 2, out_shardings=whole).lower(kernel).compile()
    assert memory.collectives(program.as_text()) == [("all-gather", 4 * 64 * 8192)]


def test_columns_depend_on_the_number_of_classes_alone():
    assert sharded.columns(203) == 203
    assert sharded.columns(203, groups=8) == 208
    assert sharded.columns(93_431) == 93_440
    assert sharded.columns(93_431, groups=24) == 93_696
    assert sharded.columns(10_000_000) == 10_000_128


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("width", [203, 206, 208, 93_440])
def test_the_rules_of_the_partition_cut_a_kernel_as_the_loss_does(mesh, width):
    place = mesh_of(mesh)
    spec = partition.spec_of("params/classifier/kernel", (513, width), place)
    got = () if spec[1] is None else (spec[1],) if isinstance(spec[1], str) else spec[1]
    want = sharded.class_axes(width, place)

    def parts(axes):
        return int(np.prod([place.shape[a] for a in axes]))

    if parts(want) > 1 or "fsdp" not in got:  # fsdp alone may cut what no rule does
        assert parts(got) == parts(want)


def test_centres_are_drawn_the_same_on_any_mesh_and_padding_is_zero():
    init, classes, found = sharded.centres(20_001), 20_001, []
    for mesh in ("one", "eight"):
        spec = jax.sharding.PartitionSpec(None, partition.AXES)
        where = jax.sharding.NamedSharding(mesh_of(mesh), spec)
        make = jax.jit(lambda key: init(key, (16, 20_224)), out_shardings=where)
        found.append(np.asarray(make(jax.random.key(0))))
    np.testing.assert_array_equal(*found)
    assert not found[0][:, classes:].any()
    np.testing.assert_allclose(found[0][:, :classes].std(), 0.01, rtol=0.01)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": 209}, "expected 2..208, the columns"),
        ({"smoothing": 1.0}, "expected 0 <= smoothing < 1"),
        ({"smoothing": 0.1, "index": np.zeros((8, 4), np.int32)}, "where classes are sampled"),
        ({"index": np.zeros((4, 4), np.int32)}, "multiple of the 8 devices"),
        ({"index": np.zeros((24, 4), np.int32)}, "divides the 208 columns"),
    ],
)
def test_what_does_not_fit_is_refused(changes, words):
    embedding, kernel, label, _ = draw(classes=208)
    with pytest.raises(UsageError, match=words):
        sharded.margin_softmax(
            embedding, kernel, label, arcface, **{"s": 64.0, "mesh": mesh_of("eight")} | changes
        )


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.5])
def test_a_rate_that_is_no_share_is_refused(rate):
    with pytest.raises(UsageError, match="0 < rate <= 1"):
        partial_fc.sample(np.zeros(8, np.int32), jax.random.key(0), width=64, rate=rate)
