import sys

import jax
import numpy as np
import pytest

from trmrl.envs import ENVS, make
from trmrl.envs.base import HOST, keys_for
from trmrl.references._play import random_play
from trmrl.types import TrmrlError, replace

FAMILIES = {"bandit", "tabular", "grid", "point", "locomotion", "rules"}


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("half-cheetah-val", "half-cheetah-vel"),
        ("halfcheetahdir", "half-cheetah-dir"),
        ("half-cheetah-vel+oracle", "half-cheetah-vel"),
        ("bandid-n10-k5", "bandit-n10-k5"),
    ],
)
def test_an_unknown_name_gets_one_line_with_near_matches(name, near):
    with pytest.raises(TrmrlError) as refusal:
        make(name)
    message = str(refusal.value)
    assert repr(name) in message
    assert near in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["zzzz", ""])
def test_a_name_near_nothing_gets_the_whole_menu(name):
    with pytest.raises(TrmrlError) as refusal:
        make(name)
    assert all(known in str(refusal.value) for known in ENVS)


@pytest.mark.parametrize("name", ENVS)
def test_every_spec_is_complete(name):
    spec = make(name).spec
    assert spec.name == name
    assert spec.family in FAMILIES
    assert make(f"{name}+task").spec.family == spec.family
    assert spec.trial_length >= spec.horizon >= 1
    assert {"train", "test"} <= set(spec.splits)


@pytest.mark.parametrize("name", ENVS)
def test_episodes_end_early_where_the_spec_says_so_and_nowhere_else(name):
    """By random play: a world that may end early does so on some lane, the others on none."""
    envs = make(name)
    num_lanes = 8 if envs.driver is HOST else 512
    tasks = envs.sample_tasks("train", num_lanes, key=jax.random.key(0))
    rule = random_play(envs, num_lanes)

    def episode(key):
        reset_key, act_key = jax.random.split(key)

        def interact(env_state, step_key):
            env_state, outcome = envs.step(env_state, rule(env_state, step_key))
            return env_state, outcome.terminated

        env_state, _ = envs.reset(tasks, key=keys_for(tasks, reset_key))
        keys = jax.random.split(act_key, envs.spec.horizon)
        return envs.driver.scan(interact, env_state, keys)[1]

    terminated = np.asarray(envs.driver.jit(episode)(jax.random.key(1)))
    assert terminated.shape == (envs.spec.horizon, num_lanes)
    assert terminated[:-1].any() == envs.spec.ends_early


def test_importing_the_menu_imports_no_simulator():
    import subprocess

    code = "import sys, trmrl.envs; assert 'mujoco' not in sys.modules, 'imported'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("name", ["grid-navi", "grid-navi+task", "tabular-n3"])
def test_a_trial_has_the_episodes_asked_for(name):
    usual, longer = make(name).spec, make(name, num_episodes=7).spec
    assert usual.num_episodes != 7
    assert longer == replace(usual, num_episodes=7)
