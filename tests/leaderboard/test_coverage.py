"""What intervals cover and tests err, by simulation: the ones that are used, and the naive ones.

The generators are fixed; the tolerances are at least four standard deviations of the simulation.
"""

import numpy as np
import pytest

from facebench.leaderboard import compare, resample, stats
from facebench.metrics import _parts


def covers_of_seeds(n, runs):
    """Coverage of the t-interval and of the percentile bootstrap over n seeds."""
    rng = np.random.default_rng(2026)
    samples = rng.normal(10.0, 2.0, (runs, n))
    half = np.array([stats.half_width(s) for s in samples.tolist()])
    t = np.mean(np.abs(samples.mean(axis=1) - 10.0) <= half)
    picks = rng.integers(0, n, (1000, n))
    means = samples[:, picks].mean(axis=-1)
    low, high = np.quantile(means, [0.025, 0.975], axis=1, method="inverted_cdf")
    return t, np.mean((low <= 10.0) & (high >= 10.0))


@pytest.mark.parametrize(("n", "naive"), [(3, 0.74), (5, 0.83), (10, 0.89)])
def test_t_covers_and_a_bootstrap_over_few_seeds_does_not(n, naive):
    t, bootstrap = covers_of_seeds(n, 3000)
    assert t == pytest.approx(0.95, abs=0.015)
    assert bootstrap == pytest.approx(naive, abs=0.03)


def coverage(runs, videos, frames, draws):
    """Of our interval of a mean over videos of frames: drawn by video, and drawn by frame.

    The second, for which many more units are drawn, is looked at in a quarter of the runs.
    """
    rng = np.random.default_rng(77)
    inside = np.zeros(2)
    truth = 0.5
    for run in range(runs):
        hard = 0.1 * rng.normal(size=(videos, 1))
        loss = truth + hard + 0.182 * rng.normal(size=(videos, frames))
        one = np.ones(videos * frames, int)
        for k, unit in enumerate((np.repeat(np.arange(videos), frames), np.arange(loss.size))):
            if k and run % 4:
                continue
            parts = _parts.ratio(_parts.quantised(loss.ravel()), one, _parts.QUANTUM, unit, "video")
            sums = resample.unit_sums(parts)
            name = f"run {run}"
            ((low, high),) = resample.intervals(name, len(sums), [[(sums, parts)]], draws)
            inside[k] += low <= truth <= high
    return inside / (runs, -(-runs // 4))


def test_the_bootstrap_over_units_covers_and_the_one_over_frames_does_not():
    units, frames = coverage(runs=250, videos=60, frames=8, draws=200)
    assert units == pytest.approx(0.94, abs=0.04)
    assert frames < 0.85  # 0.77 in closed form


@pytest.mark.slow
def test_the_bootstrap_over_units_covers_95_percent():
    units, frames = coverage(runs=2000, videos=200, frames=20, draws=300)
    assert units == pytest.approx(0.95, abs=0.015)
    # In closed form: the frames say sqrt((0.01 + 0.182^2) / 20), the truth is
    # sqrt(0.01 + 0.182^2 / 20), and P(|z| < 1.96 * 0.43) is 0.60.
    assert frames == pytest.approx(0.60, abs=0.09)


def rejections(runs, S, U, seed_sd, unit_sd, noise, shift=0.0, n=2):
    """How often pairs are told apart, alone and after Holm in any pair of n equal entries."""
    rng = np.random.default_rng(31)
    alone = np.zeros(runs, bool)
    family = np.zeros(runs, bool)
    for run in range(runs):
        table = (
            seed_sd * rng.normal(size=(n, S, 1))
            + unit_sd * rng.normal(size=(n, 1, U))
            + noise * rng.normal(size=(n, S, U))
            + rng.normal(size=(1, S, U))  # what is hard for all drops out
        )
        table[0] += shift
        means = table.mean(axis=2)
        found = compare.compare(means.tolist(), table - means[:, :, None])
        alone[run] = found.p[0, 1] <= compare.ALPHA
        family[run] = found.separated().any()
    return alone.mean(), family.mean()


# (seeds, units, spread of seeds, of units, of both, expected size)
SETTINGS = [
    (2, 40, 0.3, 0.0, 1.0),
    (2, 200, 0.3, 1.0, 1.0),
    (3, 40, 0.0, 1.0, 0.3),
    (3, 100, 0.2, 1.0, 0.5),
    (5, 40, 0.3, 0.3, 1.0),
    (5, 100, 0.0, 1.0, 0.1),
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_paired_test_errs_in_at_most_5_percent(setting):
    size, _ = rejections(1500, *setting)
    assert size <= 0.05 + 0.0225  # four standard deviations of 1500 coins at 5 %


@pytest.mark.parametrize(
    "setting", [(5, 50, 0.5, 0.0, 0.2), (3, 50, 0.0, 1.0, 0.01), (3, 50, 1.0, 0.0, 0.2)]
)
def test_it_errs_in_5_percent_where_one_source_of_spread_prevails(setting):
    size, _ = rejections(2500, *setting)
    assert size == pytest.approx(0.05, abs=0.0175)


def test_over_seeds_or_over_units_alone_it_would_err_far_more():
    rng = np.random.default_rng(5)
    S, U, runs = 3, 100, 500
    seeds = units = 0
    for _ in range(runs):
        both, noise = rng.normal(size=(1, U)), 0.5 * rng.normal(size=(S, U))
        d = both + noise  # the seeds hardly move it, the people do
        seeds += compare.compare([d.mean(axis=1).tolist(), [0.0] * S], None).p[0, 1] <= 0.05
        d = 0.3 * rng.normal(size=(S, 1)) + both + noise
        per_unit = d.mean(axis=0)
        units += abs(per_unit.mean()) > stats.half_width(per_unit.tolist())
    assert seeds / runs > 0.12
    assert units / runs > 0.12


def test_it_finds_a_difference_that_is_there():
    power, _ = rejections(150, 3, 100, 0.1, 0.5, 0.5, shift=0.8)
    assert power > 0.8
    power, _ = rejections(150, 5, 100, 0.1, 0.5, 0.5, shift=0.5)
    assert power > 0.8


def test_holm_keeps_the_chance_of_any_false_claim():
    alone, family = rejections(1000, 3, 40, 0.0, 1.0, 0.3, n=6)
    assert family <= 0.05 + 0.0276
    assert alone > 0.01  # so that 15 uncorrected pairs would err often


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_size_in_a_large_simulation(setting):
    size, _ = rejections(20_000, *setting)
    assert size <= 0.0565
