"""The waist: what a trial records, row by row, against the world stepped by hand."""

import jax
import numpy as np
import pytest

from trmrl.trial import run_trial

K, H, B = 3, 6, 4


@pytest.fixture(scope="module", params=[False, True], ids=["jax", "host"])
def lived(request, small_agent, drift, currents):
    agent, envs = small_agent("gru"), drift(host=request.param, num_episodes=K)
    model = agent.init(envs.spec, key=jax.random.key(0)).model
    tasks = currents()
    trial = run_trial(agent, model, envs, tasks, explore=True, key=jax.random.key(1))
    return tasks, jax.tree.map(np.asarray, trial)


def test_the_world_answers_the_action_that_was_recorded(lived):
    tasks, trial = lived
    for lane in range(B):
        for k in range(K):
            x = tasks.start[lane]
            for t in range(H):
                obs = trial.timestep.obs[k, t, lane]
                np.testing.assert_allclose(obs, [x, 0.1 * t], atol=1e-5)
                action = trial.decision.action[k, t, lane]
                x = x + tasks.drift[lane] + 0.04 * action[0] - 0.02 * action[1]
                next_obs = trial.outcome.next_obs[k, t, lane]
                np.testing.assert_allclose(next_obs, [x, 0.1 * (t + 1)], atol=1e-5)
                np.testing.assert_allclose(trial.outcome.reward[k, t, lane], 1 - abs(x), atol=1e-5)
                assert trial.outcome.terminated[k, t, lane] == (abs(x) > tasks.wall[lane])


def test_valid_until_the_episode_ends_and_no_longer(lived):
    _, trial = lived
    ended = trial.outcome.terminated | trial.outcome.truncated
    for lane in range(B):
        for k in range(K):
            last = np.flatnonzero(ended[k, :, lane])[0]
            np.testing.assert_array_equal(trial.valid[k, :, lane], np.arange(H) <= last)
    assert trial.valid[:, :, 0].all()
    assert trial.valid[:, :, 1].sum() < K * H


def test_what_led_here_is_kept_across_episodes_and_zero_at_the_start(lived):
    """Past rows that did not happen, too: the last that did is what led here."""
    _, trial = lived
    seen = trial.timestep
    for lane in range(B):
        action, reward = np.zeros(2), 0.0
        for k in range(K):
            for t in range(H):
                if not trial.valid[k, t, lane]:
                    continue
                np.testing.assert_array_equal(seen.prev_action[k, t, lane], action)
                assert seen.prev_reward[k, t, lane] == reward
                action, reward = trial.decision.action[k, t, lane], trial.outcome.reward[k, t, lane]


def test_more_episodes_on_request(small_agent, drift, currents):
    agent, envs = small_agent("gru"), drift(host=True)
    model = agent.init(envs.spec, key=jax.random.key(0)).model
    trial = run_trial(
        agent, model, envs, currents(), num_episodes=5, explore=False, key=jax.random.key(1)
    )
    assert trial.valid.shape == (5, H, B)
