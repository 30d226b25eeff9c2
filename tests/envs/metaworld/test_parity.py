"""Our lanes against the original classes: the same goals, the same actions, scripted and random."""

import numpy as np
import pytest

from trmrl.envs.metaworld._lanes import Lanes
from trmrl.envs.metaworld._original import load_scene

pytestmark = pytest.mark.metaworld

GOALS, STEPS = 8, 80
# What each would show first: the forward pass after a step and fingers that are views; a viewed
# goal; a viewed object and a body moved by the goal; contact forces; memory within an episode.
FIVE = ["push", "basketball", "door-lock", "stick-push", "bin-picking"]
OTHERS = (
    "assembly box-close button-press button-press-topdown button-press-topdown-wall "
    "button-press-wall coffee-button coffee-pull coffee-push dial-turn disassemble door-close "
    "door-open door-unlock drawer-close drawer-open faucet-close faucet-open hammer hand-insert "
    "handle-press handle-press-side handle-pull handle-pull-side lever-pull peg-insert-side "
    "peg-unplug-side pick-out-of-hole pick-place pick-place-wall plate-slide plate-slide-back "
    "plate-slide-back-side plate-slide-side push-back push-wall reach reach-wall shelf-place "
    "soccer stick-pull sweep sweep-into window-close window-open"
).split()


def recorded(env, act, layouts):
    """An episode of each layout: odd ones scripted, even ones at random, all with noise."""
    noise = np.random.default_rng(0)
    rows = {name: [] for name in ("action", "obs", "reward", "success", "qpos")}
    for number, layout in enumerate(layouts):
        env._last_rand_vec = layout
        obs, _ = env.reset()
        episode = {name: [] for name in rows}
        episode["obs"].append(obs)
        episode["qpos"].append(env.data.qpos.copy())
        for _ in range(STEPS):
            chosen = act(env, obs) if number % 2 else noise.uniform(-1, 1, 4)
            action = np.clip(chosen + 0.1 * noise.normal(size=4), -1, 1)
            obs, reward, _, _, marks = env.step(action)
            found = action, obs, reward, bool(marks["success"]), env.data.qpos.copy()
            for name, value in zip(episode, found, strict=True):
                episode[name].append(value)
        for name, values in episode.items():
            rows[name].append(values)
    return {name: np.asarray(values).swapaxes(0, 1) for name, values in rows.items()}


@pytest.mark.parametrize(
    "task", [*FIVE, *(pytest.param(task, marks=pytest.mark.full) for task in OTHERS)]
)
def test_lanes_do_what_the_original_does(task, original, script):
    name = f"{task}-v3"
    scene = load_scene(name)
    uniform = np.random.RandomState(7).uniform
    layouts = np.stack([scene.draw(uniform) for _ in range(GOALS)])
    env = original(name)
    assert env._partially_observable
    expected = recorded(env, script(name), layouts)
    lanes = Lanes(scene, GOALS, 1)
    forward = np.arange(GOALS)
    for order, steps in ((forward, STEPS), (forward[::-1], 10)):  # an episode after another
        rows = {name: values[:, order] for name, values in expected.items()}
        np.testing.assert_allclose(lanes.reset(layouts[order]), rows["obs"][0], atol=1e-15, rtol=0)
        assert np.array_equal(lanes.qpos, rows["qpos"][0])
        for t in range(steps):
            obs, reward, success, _ = lanes.step(rows["action"][t])
            assert np.array_equal(lanes.qpos, rows["qpos"][t + 1]), t
            np.testing.assert_allclose(obs, rows["obs"][t + 1], atol=1e-15, rtol=0)
            np.testing.assert_allclose(reward, rows["reward"][t], atol=1e-9, rtol=0)
            assert np.array_equal(success, rows["success"][t]), t
    assert np.ptp(expected["reward"]) > 0.01
    assert (expected["obs"][..., -3:] == 0).all()  # the goal is hidden in both


def test_five_and_others_are_all_of_them():
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    assert len(ALL_V3_ENVIRONMENTS) == 50
    assert {f"{task}-v3" for task in FIVE + OTHERS} == set(ALL_V3_ENVIRONMENTS)


def test_some_lanes_of_the_five_succeed_and_others_do_not(original, script):
    """Parity of success says nothing where there is none: of the five, it is in stick-push."""
    scene = load_scene("stick-push-v3")
    uniform = np.random.RandomState(7).uniform
    layouts = np.stack([scene.draw(uniform) for _ in range(2)])
    success = recorded(original("stick-push-v3"), script("stick-push-v3"), layouts)["success"]
    assert success.any(0).tolist() == [False, True]
