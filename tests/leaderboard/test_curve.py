import math

import numpy as np
import pytest

from facebench.leaderboard import curve


def test_the_area_is_the_integral_over_the_logarithm():
    values, scores = [0.01, 0.1, 0.25, 1.0], [40.0, 22.0, 18.0, 15.0]
    # A fine grid in log(value), joined by straight lines, averaged by the midpoint rule.
    x = np.log(values)
    grid = np.linspace(x[0], x[-1], 200_001)
    middle = (grid[:-1] + grid[1:]) / 2
    expected = np.interp(middle, x, scores).mean()
    assert curve.area(values, scores) == pytest.approx(expected, rel=1e-8)


def test_a_flat_curve_is_as_high_as_its_scores_and_a_straight_one_as_its_middle():
    assert curve.area([0.01, 0.1, 1.0], [3.0, 3.0, 3.0]) == pytest.approx(3.0, rel=1e-15)
    assert curve.area([1, 4, 16], [1.0, 2.0, 3.0]) == pytest.approx(2.0, rel=1e-15)


def test_the_unit_of_the_values_does_not_matter():
    scores = [5.0, 4.0, 1.0]
    assert curve.area([0.1, 0.3, 1.0], scores) == pytest.approx(
        curve.area([10, 30, 100], scores), rel=1e-12
    )


def test_one_value_is_no_curve():
    with pytest.raises(ValueError, match="two regime values"):
        curve.area([1.0], [2.0])


@pytest.mark.parametrize(
    ("chance", "reference", "score", "expected"),
    [
        (0.1, 0.9, 0.5, 0.5),
        (30.0, 5.0, 5.0, 1.0),  # lower is better
        (30.0, 5.0, 30.0, 0.0),
        (30.0, 5.0, 35.0, -0.2),
        (None, 5.0, 1.0, None),
        (1.0, None, 1.0, None),
        (1.0, 1.0, 1.0, None),
        (1.0, 2.0, math.inf, None),
    ],
)
def test_normalised(chance, reference, score, expected):
    metric = {"name": "m", "chance": chance, "reference": reference}
    found = curve.normalised(metric, score)
    assert found == (None if expected is None else pytest.approx(expected))
    assert curve.normalised({"name": "m"}, score) is None
