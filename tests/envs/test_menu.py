import sys

import pytest

from trmrl.envs import ENVS, make
from trmrl.types import TrmrlError, replace


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


def test_every_dish_is_what_it_is_called():
    for name in ENVS:
        spec = make(name).spec
        assert spec.name == name
        assert spec.horizon >= 1
        assert spec.num_episodes >= 1
        assert {"train", "test"} <= set(spec.splits)


def test_looking_at_the_menu_cooks_nothing():
    import subprocess

    code = "import sys, trmrl.envs; assert 'mujoco' not in sys.modules, 'imported'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("name", ["grid-navi", "grid-navi+task", "tabular-n3"])
def test_a_trial_has_the_episodes_asked_for(name):
    usual, longer = make(name).spec, make(name, num_episodes=7).spec
    assert usual.num_episodes != 7
    assert longer == replace(usual, num_episodes=7)
