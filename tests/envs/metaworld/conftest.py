"""The originals on MuJoCo 4, to compare with. Without `metaworld` what needs it is skipped."""

import warnings
from collections.abc import Callable

import pytest

WELD = [0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 5]


@pytest.fixture
def on_mujoco_4(monkeypatch):
    """The originals set eleven numbers of a weld, and MuJoCo 4 has twelve."""
    import mujoco
    from metaworld.sawyer_xyz_env import SawyerMocapBase

    def reset_mocap_welds(self):
        welds = self.model.eq_type == mujoco.mjtEq.mjEQ_WELD.value
        self.model.eq_data[welds] = 0
        self.model.eq_data[welds, :11] = WELD

    monkeypatch.setattr(SawyerMocapBase, "reset_mocap_welds", reset_mocap_welds)


@pytest.fixture
def original(on_mujoco_4) -> Callable:
    """`original("reach-v3")`: an environment as shipped, whose task is `_last_rand_vec`."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    def make(name):
        env = ALL_V3_ENVIRONMENTS[name]()
        env._set_task_called, env._freeze_rand_vec = True, True
        return env

    return make


@pytest.fixture
def script() -> Callable:
    """`script("reach-v3")`: the package's own policy, told the goal: `act(env, obs)`."""
    from metaworld.policies import ENV_POLICY_MAP

    def make(name):
        policy = ENV_POLICY_MAP[name]()

        def act(env, obs):
            shown = obs.copy()
            shown[-3:] = env._target_pos
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it asks for more than actions allow
                return policy.get_action(shown)

        return act

    return make
