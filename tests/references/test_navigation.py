import functools
import itertools

import numpy as np
import pytest

from trmrl.envs import make
from trmrl.envs.finite import split_rows
from trmrl.envs.grid import MOVES
from trmrl.references import reference
from trmrl.references.navigation import bayes_optimal_episode, bayes_optimal_grid
from trmrl.types import replace


def expectimax(size, horizon, num_episodes):
    """GridNavi's best total by trying everything, in plain recursion over histories."""
    cells = [(x, y) for x in range(size) for y in range(size)]
    goals = frozenset(cell for cell in cells if max(cell) > 1)

    def around(cell):
        near = [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)]
        clip = lambda i: min(max(i, 0), size - 1)
        return {(clip(cell[0] + dx), clip(cell[1] + dy)) for dx, dy in near}

    @functools.cache
    def known(cell, goal, left):
        """The best of `left` steps of one episode, the goal known."""
        if left == 0:
            return 0.0
        return max((1.0 if c == goal else -0.1) + known(c, goal, left - 1) for c in around(cell))

    @functools.cache
    def best(cell, left, episodes, maybe):
        if left == 0:
            return best((0, 0), horizon, episodes - 1, maybe) if episodes > 1 else 0.0
        values = []
        for c in around(cell):
            rest = maybe - {c}
            chance = (len(maybe) - len(rest)) / len(maybe)
            value = 0.0
            if chance:
                later = (episodes - 1) * known((0, 0), c, horizon)
                value += chance * (1.0 + known(c, c, left - 1) + later)
            if rest:
                value += (1 - chance) * (-0.1 + best(c, left - 1, episodes, rest))
            values.append(value)
        return max(values)

    return best((0, 0), horizon, num_episodes, goals)


@pytest.mark.parametrize(("horizon", "num_episodes"), [(6, 1), (3, 3), (5, 2)])
def test_bayes_optimal_of_a_small_room_is_what_recursion_finds(horizon, num_episodes):
    found = bayes_optimal_grid(3, horizon, num_episodes)
    assert found == pytest.approx(expectimax(3, horizon, num_episodes), abs=1e-4)


def test_rules_that_know_the_goal_earn_what_geometry_gives():
    score = {s.strategy: s for s in reference("dark-room", num_tasks=2000)}
    # Distance d from the center: 20 - d + 1 steps on the goal, and 20 at the center itself.
    every = np.stack(np.divmod(np.arange(81), 9), axis=1)
    distance = np.abs(split_rows(every, "test") - 4).sum(axis=1)
    expected = np.where(distance == 0, 20, 21 - distance).mean()
    assert make("dark-room").spec.ceiling == pytest.approx(expected, abs=0.05)
    assert score["oracle"].mean / 10 == pytest.approx(expected, abs=0.3)
    # Over all 81 goals, which is the published number.
    distance = np.abs(every - 4).sum(axis=1)
    assert np.where(distance == 0, 20, 21 - distance).mean() == pytest.approx(16.54, abs=0.01)


def test_the_oracle_of_the_sparse_point():
    score = {s.strategy: s for s in reference("semicircle", num_tasks=2000)}
    assert score["oracle"].mean / 3 == pytest.approx(93.38, abs=0.1)
    score = {s.strategy: s for s in reference("point-robot-sparse", num_tasks=2000)}
    assert score["oracle"].mean / 6 == pytest.approx(13.4, abs=0.3)


def test_the_oracle_of_key_to_door_takes_both_rewards_every_time():
    score = {s.strategy: s for s in reference("dark-key-to-door", num_tasks=100)}
    np.testing.assert_allclose(score["oracle"].total, 20.0)
    assert 0.5 < score["random"].mean < 5.0


def test_treasures_are_best_looked_for_from_the_summit():
    """Ten steps up, as many down as it takes, then ten a step; or half a circle, on average."""
    score = {s.strategy: s for s in reference("treasure-hunt", num_tasks=1000)}
    assert score["oracle"].mean > score["climb-first"].mean > score["walk-around"].mean
    # Down to the treasure at (1, 0): nine steps along x, which the last ends within reach.
    up = -5.0 * 5 - sum(5.5 - distance for distance in (0.4, 0.3, 0.2, 0.1, 0.0))
    assert score["climb-first"].total.max() <= up - 5.0 * 4 + 10.0 * 86
    assert -600 < score["random"].mean < -480


def test_the_oracle_of_three_rooms_takes_the_shortest_way():
    """By breadth first search, on all 48 tasks."""
    envs = make("multi-stage-rooms")
    width, height = envs.size
    free = {(x, y) for x in range(width) for y in range(height)} - set(envs.walls)
    assert len(free) == 33

    def distance(start, goal):
        reached, steps = {start}, 0
        while goal not in reached:
            near = {(x + dx, y + dy) for x, y in reached for dx, dy in MOVES.tolist()}
            reached, steps = reached | (near & free), steps + 1
        return steps

    totals = []
    for goals in envs.goals("test"):
        way = [tuple(cell) for cell in ([7, 1], *goals.tolist())]
        steps = [distance(*pair) for pair in itertools.pairwise(way)]
        total = 111.0 - 0.1 * (sum(steps) - 3) + 100.0 * (50 - sum(steps))
        totals.append(total)
    assert len(totals) == 48
    score = {s.strategy: s for s in reference("multi-stage-rooms", num_tasks=48)}
    np.testing.assert_allclose(sorted(score["oracle"].total), sorted(totals), rtol=1e-6)
    assert envs.spec.ceiling == pytest.approx(np.mean(totals), abs=1.0)


@pytest.mark.parametrize("horizon", [3, 6])
def test_bayes_optimal_of_an_episode_is_what_the_larger_program_finds(horizon):
    navi = make("grid-navi")
    every = np.stack(np.divmod(np.arange(9), 3), axis=1)
    goals = lambda split: every[(every > 1).any(axis=1)][:, None]
    envs = replace(navi, size=(3, 3), goals=goals, spec=replace(navi.spec, horizon=horizon))
    expected = bayes_optimal_grid(3, horizon, 1)
    assert bayes_optimal_episode(envs) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("horizon", "best"),
    [
        (1, -0.1),
        (2, -0.1 + 0.25 * 1.0 - 0.75 * 0.1),  # one corner in two steps
        (3, -0.1 + 0.25 * 2.0 - 0.75 * 0.2),  # and stay there if it is the one
        # Two steps on from the wrong corner is the next: one of the three that are left.
        (4, -0.1 + 0.25 * 3.0 + 0.75 * (-0.1 - 0.1 + 1.0 / 3.0 - 0.1 * 2.0 / 3.0)),
    ],
)
def test_bayes_optimal_of_three_rooms_by_hand(horizon, best):
    envs = make("multi-stage-rooms")
    envs = replace(envs, spec=replace(envs.spec, horizon=horizon))
    assert bayes_optimal_episode(envs) == pytest.approx(best, abs=1e-6)


def test_who_must_look_for_three_goals_earns_less_than_who_knows_them():
    envs = make("multi-stage-rooms")
    assert 2_500 < bayes_optimal_episode(envs) < envs.spec.ceiling
