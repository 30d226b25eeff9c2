"""Scenes are drawn where their simulations have them, with the goal that agents do not observe."""

import jax
import numpy as np
import pytest

from trmrl.envs import make
from trmrl.envs.base import keys_for

pytestmark = pytest.mark.metaworld
KEY = jax.random.key(0)


def begin(name, num_tasks):
    envs = make(name)
    tasks = envs.sample_tasks("test", num_tasks, key=KEY)
    env_state, _ = envs.reset(tasks, key=keys_for(tasks, KEY))
    return envs, tasks, env_state


def row(view, lane):
    return jax.tree.map(lambda x: x[lane], view)


def test_its_solids_are_where_the_simulation_has_them():
    """The door is somewhere else for each task, and no joint says where."""
    envs, _, env_state = begin("ml1-door-open-h20", 2)
    envs.step(env_state, np.array([[0.5, -0.3, -0.4, 1.0], [0.1, 0.9, 0.0, -1.0]], np.float32))
    lanes, figure = env_state.groups[0][1], envs.figure()
    simulated = lanes.scene.model
    names = ["rightpad_geom", "leftpad_geom", "handle"]
    for lane in range(2):
        position, rotation = figure.place(row(envs.view(env_state), lane))
        model, drawn, _ = figure._scenes[int(envs.view(env_state)["scene"][lane])]
        for name in names:
            place, number = drawn._geoms.index(model.geom(name).id), simulated.geom(name).id
            expected = lanes._fields["geom_xpos"][lane, number]
            np.testing.assert_allclose(position[place], expected, atol=1e-9)
            turn = lanes._fields["geom_xmat"][lane, number].reshape(3, 3)
            np.testing.assert_allclose(rotation[place], turn, atol=1e-9)


@pytest.mark.parametrize("name", ["ml1-reach-h20", "ml1-push-h20"])
def test_a_ball_is_at_the_goal(name):
    envs, tasks, env_state = begin(name, 3)
    figure = envs.figure()
    for lane in range(3):
        position, _ = figure.place(row(envs.view(env_state), lane))
        np.testing.assert_allclose(position[-1][:2], tasks["layout"][lane, 3:5], atol=1e-9)
    assert figure.solids[-1].color == (0, 158, 115)
    assert len(position) == len(figure.solids)


def test_a_goal_that_the_simulation_holds_is_there_from_the_first():
    envs, _, env_state = begin("ml1-basketball-h20", 1)
    goal = envs.view(env_state)["goal"][0].copy()
    envs.step(env_state, np.zeros((1, 4), np.float32))
    np.testing.assert_allclose(goal, envs.view(env_state)["goal"][0], atol=1e-9)
    assert goal[1] > 0.5


def test_lanes_of_many_scenes_are_drawn_each_in_its_own():
    envs, tasks, env_state = begin("ml10-h20", 5)
    view, figure = envs.view(env_state), envs.figure()
    np.testing.assert_array_equal(view["scene"], tasks["scene"])
    shown = []
    for lane in range(5):
        position, _ = figure.place(row(view, lane))
        assert len(position) == len(figure.solids) and np.isfinite(position).all()
        shown.append(figure.solids)
    assert len({id(solids) for solids in shown}) == 5
    assert figure.place(row(view, 0)) and figure.solids is shown[0]


def test_a_step_is_eighty_to_the_second():
    assert make("ml1-reach").step_seconds == pytest.approx(1 / 80)
