import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.envs import make
from trmrl.envs.base import keys_for
from trmrl.envs.grid import Room

UP, RIGHT, DOWN, LEFT, STAY = range(5)


def walk(envs, room, actions):
    """Cells, rewards and ends of one lane's episode."""
    tasks = Room(jnp.asarray([room[0]], jnp.int32), jnp.asarray([room[1]], jnp.int32))
    env_state, obs = envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))
    step = jax.jit(envs.step)
    rows = []
    for action in actions:
        env_state, outcome = step(env_state, jnp.asarray([action], jnp.int32))
        rows.append(outcome)
    column = lambda name: np.asarray([np.asarray(getattr(row, name))[0] for row in rows])
    return np.asarray(obs)[0], column("next_obs"), column("reward"), column


def test_an_episode_of_grid_navi_by_hand():
    envs = make("grid-navi")
    actions = [LEFT, UP, UP, RIGHT, UP, UP, UP, STAY, DOWN, UP, LEFT, RIGHT, RIGHT, STAY, STAY]
    first, obs, reward, column = walk(envs, ([0, 0], [[1, 3]]), actions)
    np.testing.assert_array_equal(first, [0, 0])
    cells = [
        (0, 0), (0, 1), (0, 2), (1, 2), (1, 3), (1, 4), (1, 4), (1, 4), (1, 3), (1, 4), (0, 4),
        (1, 4), (2, 4), (2, 4), (2, 4),
    ]  # fmt: skip
    np.testing.assert_array_equal(obs, cells)
    np.testing.assert_allclose(reward, [1.0 if cell == (1, 3) else -0.1 for cell in cells])
    assert not column("terminated").any()
    np.testing.assert_array_equal(column("truncated"), [False] * 14 + [True])


def test_the_first_episode_of_bayes_optimal_play():
    """Seven goals lie on a shortest path that a perfect explorer leaves for last: 4.0 at first."""
    envs = make("grid-navi")
    assert envs.spec.num_episodes == 4
    first = [UP, UP, RIGHT, RIGHT, DOWN]  # (0,1) (0,2) (1,2) (2,2) (2,1)
    visited = {(0, 2): 2, (1, 2): 3, (2, 2): 4, (2, 1): 5}
    for goal, step in visited.items():
        stay = [*first[:step], *[STAY] * (15 - step)]
        _, _, reward, _ = walk(envs, ([0, 0], [goal]), stay)
        assert reward.sum() == pytest.approx((16 - step) - 0.1 * (step - 1), abs=1e-5)


def test_goals_of_grid_navi_are_21_and_all_are_drawn():
    envs = make("grid-navi")
    for split in ("train", "test"):
        tasks = envs.sample_tasks(split, 4000, key=jax.random.key(0))
        goals, counts = np.unique(np.asarray(tasks.goal)[:, 0], axis=0, return_counts=True)
        assert len(goals) == 21
        assert (goals.max(axis=1) > 1).all()
        assert counts.min() > 130  # 190 expected
        assert not np.asarray(tasks.start).any()


def test_dark_room_pays_every_step_on_its_goal():
    envs = make("dark-room")
    actions = [UP, STAY, UP, DOWN] + [UP] * 8
    first, obs, reward, _ = walk(envs, ([4, 4], [[4, 5]]), actions)
    np.testing.assert_array_equal(first, [4, 4])
    np.testing.assert_allclose(reward, [1, 1, 0, 1] + [0] * 8)
    np.testing.assert_array_equal(obs[-1], [4, 8])  # the wall


def test_dark_key_to_door_by_hand():
    envs = make("dark-key-to-door")
    # Over the door without the key, to the key, away and back (nothing), to the door: the end.
    actions = [RIGHT, RIGHT, LEFT, RIGHT, LEFT]
    first, obs, reward, column = walk(envs, ([0, 0], [[2, 0], [1, 0]]), actions[:3])
    np.testing.assert_allclose(first, [0, 0, 0, 0])
    np.testing.assert_allclose(reward, [0, 1, 1])
    np.testing.assert_array_equal(column("terminated"), [False, False, True])
    np.testing.assert_allclose(
        obs, [[1 / 9, 0, 0, 0.02], [2 / 9, 0, 1, 0.04], [1 / 9, 0, 1, 0.06]], atol=1e-6
    )
    _, _, reward, column = walk(envs, ([2, 0], [[2, 0], [5, 5]]), [RIGHT, LEFT, STAY, RIGHT, LEFT])
    np.testing.assert_allclose(reward, [0, 1, 0, 0, 0])  # a start on the key is no visit yet
    assert not column("terminated").any()
    _, _, reward, _ = walk(envs, ([2, 0], [[2, 0], [2, 0]]), [STAY, STAY])
    np.testing.assert_allclose(reward, [1, 1])


def test_starts_of_dark_key_to_door_are_anywhere():
    tasks = make("dark-key-to-door").sample_tasks("test", 4000, key=jax.random.key(0))
    assert len(np.unique(np.asarray(tasks.start), axis=0)) == 81


def test_three_rooms_by_hand():
    """Corners (6, 0), (0, 2) and (8, 2): each pays only after the one before it."""
    envs = make("multi-stage-rooms")
    goals = [[6, 0], [0, 2], [8, 2]]
    way = [UP, RIGHT, DOWN, DOWN, LEFT, LEFT]  # over the third, which does not pay yet
    to_second = [UP, *[LEFT] * 6, UP]
    back = [DOWN, *[RIGHT] * 8, UP, STAY]
    first, obs, reward, column = walk(envs, ([7, 1], goals), way + to_second + back)
    np.testing.assert_array_equal(first, [0, 0])
    expected = [-0.1] * 5 + [1.0] + [-0.1] * 7 + [10.0] + [-0.1] * 9 + [100.0, 100.0]
    np.testing.assert_allclose(reward, expected)
    np.testing.assert_allclose(obs[13], [-1, 1])
    assert not column("terminated").any()


def test_corridors_have_walls_and_rooms_do_not_show_their_goals():
    envs = make("multi-stage-rooms")
    goals = [[8, 0], [12, 0], [6, 0]]
    actions = [RIGHT, RIGHT, UP, DOWN, UP, LEFT, UP, RIGHT]
    _, obs, _, _ = walk(envs, ([7, 1], goals), actions)
    cells = np.round(obs * [7, 1] + [7, 1]).astype(int)
    np.testing.assert_array_equal(
        cells, [(8, 1), (9, 1), (9, 1), (9, 1), (9, 1), (8, 1), (8, 2), (8, 2)]
    )


def test_goals_of_three_rooms_are_48():
    goals = make("multi-stage-rooms").goals("train")
    first, second, third = np.swapaxes(goals, 0, 1)
    assert len(np.unique(goals.reshape(48, 6), axis=0)) == 48
    assert set(np.unique(first[:, 0])) == {6, 8} and (first != third).any(axis=1).all()
    np.testing.assert_array_equal(second[:, 0] < 7, first[:, 0] < 7)
    assert set(np.unique(second[:, 0])) == {0, 2, 12, 14}
    assert set(np.unique(goals[..., 1])) == {0, 2}
