"""Stopping, killing, resuming, diverging."""

import json
import os
import signal

import jax
import numpy as np
import optax
import pytest
import toys

from facebench.errors import FacebenchError
from facebench.train import checkpoint, log, loop, partition, state

STEPS = 12


def fit(workdir, batches=toys.batches, steps=STEPS, net=None, mesh=1, seed=3, given=None, **plan):
    place = partition.Partition(
        partition.make_mesh({"data": -1, "fsdp": 1, "model": 1}, jax.devices()[:mesh])
    )
    plan = {"log_every": 4, "checkpoint_every": 5, "ema": 0.9} | plan
    programs = loop.Programs(
        module=net or toys.Net(),
        task=toys.Regression(),
        optimizer=toys.optimizer(STEPS, name="adamw", lr=1e-3),
        plan=loop.Plan(steps, 32, **plan),
        partition=place,
        image_shape=(12, 12, 3),
    )
    return loop.fit(programs, batches=batches, seed=seed, workdir=workdir, given=given)


def bits(fitted):
    return checkpoint.params_digest(fitted.state)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return bits(fit(tmp_path_factory.mktemp("whole")))


def test_two_runs_agree_and_the_seed_matters(tmp_path, whole):
    assert bits(fit(tmp_path / "a")) == whole
    assert bits(fit(tmp_path / "b", seed=4)) != whole


def test_logging_and_saving_change_no_bit(tmp_path, whole):
    assert bits(fit(tmp_path, log_every=1, checkpoint_every=2, tensorboard=True)) == whole
    assert list((tmp_path / "tensorboard").glob("events*"))


class FaultError(Exception):
    pass


@pytest.mark.parametrize("at", [3, 7, 11])
def test_a_run_that_broke_goes_on_to_the_same_bits(tmp_path, whole, at):
    seen = []

    def breaking(start):
        for step, batch in enumerate(toys.batches(start), start):
            if step == at:
                raise FaultError
            yield batch

    with pytest.raises(FaultError):
        fit(tmp_path, breaking)

    def counting(start):
        seen.append(start)
        return toys.batches(start)

    assert bits(fit(tmp_path, counting)) == whole
    assert seen == [at // 5 * 5]
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").open()]
    assert steps == [4, 8, 12]


GIVEN = {
    "params": {"stem": {"kernel": np.full((3, 3, 3, 8), 0.02, np.float32)}},
    "batch_stats": {"BatchNorm_0": {"mean": np.full(8, 0.5, np.float32)}},
}


def test_given_variables_stand_in_the_place_of_drawn_ones():
    """Averages and what the optimiser keeps begin with them; all else is as it was drawn."""
    keeps = optax.GradientTransformation(lambda params: params, lambda g, s, p: (g, s))
    image = np.zeros((2, 12, 12, 3), np.float32)
    drawn, begun = (
        state.create(toys.Net(), keeps, image, jax.random.key(3), ema=True, given=given)
        for given in (None, GIVEN)
    )
    stem = GIVEN["params"]["stem"]["kernel"]
    for params in (begun.params, begun.ema, begun.opt_state):
        assert np.array_equal(params["stem"]["kernel"], stem)
        assert np.array_equal(params["stem"]["bias"], drawn.params["stem"]["bias"])
        assert np.array_equal(params["wide"]["kernel"], drawn.params["wide"]["kernel"])
    stats, before = (s.collections["batch_stats"]["BatchNorm_0"] for s in (begun, drawn))
    assert np.array_equal(stats["mean"], np.full(8, 0.5))
    assert np.array_equal(stats["var"], before["var"])
    for wrong, said in (
        ({"params": {"stemm": {}}}, "variables params: .*stemm.* the module has .*stem"),
        ({"params": {"stem": {"bias": np.zeros(3)}}}, r"params/stem/bias .*\(3,\).* has \(8,\)"),
        ({"parms": {}}, "variables of the module"),
        ({"params": {"stem": {"bias": {"x": np.zeros(3)}}}}, "the module has an array"),
    ):
        with pytest.raises(FacebenchError, match=said):
            state.create(toys.Net(), keeps, image, jax.random.key(3), given=wrong)


def test_a_run_that_began_with_given_variables_is_not_given_them_again(tmp_path, whole):
    """After a kill it goes on to the same bits, with or without them; another start is another."""
    begun = bits(fit(tmp_path / "whole", given=GIVEN))
    assert begun != whole

    def breaking(start):
        yield from (toys.batch(step) for step in range(start, 7))
        raise FaultError

    for name, later in (("with", GIVEN), ("without", None)):
        with pytest.raises(FaultError):
            fit(tmp_path / name, breaking, given=GIVEN)
        assert bits(fit(tmp_path / name, given=later)) == begun
    # and a checkpoint is read back as arrays, whatever device it was on
    step, kept = checkpoint.read(tmp_path / "whole" / "checkpoints")
    again = fit(tmp_path / "whole")
    variables = {"params": kept["ema"], **kept["collections"]}
    assert step == STEPS
    assert checkpoint.params_digest(variables) == checkpoint.params_digest(again.state.variables())


def test_a_finished_run_trains_no_more(tmp_path, whole):
    fit(tmp_path)

    def none(start):
        raise AssertionError("asked for a batch")

    assert bits(fit(tmp_path, none)) == whole


def test_sigterm_saves_and_the_run_goes_on_to_the_same_bits(tmp_path, whole):
    def terminating(start):
        for step, batch in enumerate(toys.batches(start), start):
            if step == 6:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(loop.Interrupted, match="SIGTERM at step 7"):
        fit(tmp_path, terminating)
    assert signal.getsignal(signal.SIGTERM) is before
    assert (tmp_path / "checkpoints" / "steps" / "7").is_dir()
    assert bits(fit(tmp_path)) == whole


def test_a_loss_that_is_not_finite_ends_the_run_and_is_not_saved(tmp_path):
    def poisoned(start):
        for step, batch in enumerate(toys.batches(start), start):
            if step == 5:
                batch["t"][0, 0] = np.nan
            yield batch

    with pytest.raises(loop.Diverged, match="nan at step"):
        fit(tmp_path, poisoned)
    assert sorted(p.name for p in (tmp_path / "checkpoints" / "steps").iterdir()) == ["5"]


def test_a_checkpoint_of_another_model_is_refused_by_name(tmp_path):
    fit(tmp_path, steps=5)

    with pytest.raises(FacebenchError, match=r"another model: .*BatchNorm_0.* nothing in this"):
        fit(tmp_path, net=toys.Net(norm=False))


def test_fewer_steps_than_the_checkpoint_has_is_refused(tmp_path):
    fit(tmp_path)
    with pytest.raises(FacebenchError, match=r"checkpoint of step 12, beyond the 5"):
        fit(tmp_path, steps=5)


def test_a_checkpoint_of_eight_devices_restores_on_one(tmp_path):
    eight = fit(tmp_path, steps=STEPS, mesh=8)
    one = fit(tmp_path, steps=STEPS, mesh=1)
    assert bits(eight) == bits(one)


def test_a_full_disk_is_named_and_what_stood_before_stays(tmp_path, monkeypatch):
    fit(tmp_path, steps=5)
    kept = checkpoint.digest.of_lines(sorted(str(p) for p in (tmp_path / "checkpoints").rglob("*")))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.ocp.CheckpointManager, "save", full)
    with pytest.raises(FacebenchError, match="the disk is full; free some space"):
        fit(tmp_path)
    assert kept == checkpoint.digest.of_lines(
        sorted(str(p) for p in (tmp_path / "checkpoints").rglob("*"))
    )


def test_a_half_written_line_and_later_steps_are_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    log.truncate(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


@pytest.mark.parametrize(("seconds", "text"), [(41.6, "42s"), (185, "3m05s"), (7800, "2h10m")])
def test_durations_are_readable(seconds, text):
    assert log.duration(seconds) == text
