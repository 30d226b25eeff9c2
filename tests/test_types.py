import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.types import (
    Continuous,
    Decision,
    Discrete,
    EnvSpec,
    Outcome,
    Timestep,
    Trajectory,
    TrmrlError,
)


@pytest.mark.parametrize("library", [np, jnp])
def test_actions_as_agents_are_shown_them(library):
    action = library.asarray(np.array([[2, 0], [1, 2]], np.int32))
    found = Discrete(3).encode(action)
    expected = [[[0, 0, 1], [1, 0, 0]], [[0, 1, 0], [0, 0, 1]]]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32
    torque = library.ones((2, 4), library.float32)
    assert Continuous(4).encode(torque) is torque


def test_flatten_time_lays_episodes_end_to_end():
    k, h, b = np.meshgrid(np.arange(2), np.arange(3), np.arange(4), indexing="ij")
    x = (100 * k + 10 * h + b).astype(np.float32)
    wide, flag = np.stack([x, -x], axis=-1), x > 50
    trial = Trajectory(
        Timestep(wide, wide, x, flag, flag),
        Decision(wide, x, x),
        Outcome(x, flag, flag, wide),
        flag,
    )
    flat = trial.flatten_time()
    assert flat.valid.shape == (6, 4)
    assert flat.decision.extras is None
    np.testing.assert_array_equal(flat.outcome.reward[:, 1], [1, 11, 21, 101, 111, 121])
    np.testing.assert_array_equal(flat.timestep.obs[4], wide[1, 1])


def test_check_split_names_what_it_has():
    spec = EnvSpec("world", 1, Discrete(2), 1, 1, splits=("train", "ood"))
    spec.check_split("ood")
    with pytest.raises(TrmrlError, match="world has no split 'test': choose one of train, ood"):
        spec.check_split("test")
