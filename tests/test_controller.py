"""A controller in somebody else's loop takes the very actions that `run_trial` takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import trmrl
from trmrl import config as configs
from trmrl.agents.base import AbstractAgent, TaskPlan
from trmrl.config import Config
from trmrl.controller import Controller
from trmrl.envs import ENVS, make
from trmrl.run import Run
from trmrl.train import restore
from trmrl.trial import run_trial
from trmrl.types import Decision, TrainState, TrmrlError, replace


@pytest.fixture(scope="module")
def saved(tmp_path_factory, small_agent, shake, drift):
    """`saved(env, core)`: a run folder of an agent with telling weights, on one of the worlds."""
    worlds = {"drift": lambda: drift(), "host-drift": lambda: drift(host=True)}

    def save(env, core):
        run = Run(tmp_path_factory.mktemp("runs") / "run")
        agent = small_agent(core, normalize_obs=False)
        config = Config(env, core, "default", agent, env_steps=100, num_lanes=2)
        run.create(configs.to_json(config))
        learner = agent.init(make(env).spec, key=jax.random.key(0))
        learner = replace(learner, model=shake(learner.model))
        zero = np.zeros((), np.int64)
        run.save(TrainState(learner, jax.random.key(0), zero, zero))
        return run.path

    with pytest.MonkeyPatch.context() as patch:
        for name, maker in worlds.items():
            patch.setitem(ENVS, name, maker)
        yield save


def act_along(controller, trial):
    """The controller's actions at the valid rows of a one-lane trial, told what that lane saw."""
    actions = []
    for k, t in zip(*np.nonzero(trial.valid[:, :, 0]), strict=True):
        seen, at = trial.timestep, (k, t, 0)
        reward, start = float(seen.prev_reward[at]), bool(seen.episode_start[at])
        actions.append(controller.act(seen.obs[at], reward, episode_start=start))
    return np.stack(actions)


def lived_alone(env, agent, model, seed=1):
    """A trial of one lane, and the actions it took at its valid rows."""
    envs = make(env)
    tasks = envs.sample_tasks("test", 1, key=jax.random.key(seed))
    trial = run_trial(agent, model, envs, tasks, explore=False, key=jax.random.key(seed + 1))
    trial = jax.tree.map(np.asarray, trial.rows)
    return trial, trial.decision.action[trial.valid]


@pytest.mark.parametrize(
    ("env", "core"),
    [
        ("bandit-n6-k3", "trial-whole"),
        ("bandit-n6-k3", "gru"),
        ("drift", "window"),
        ("host-drift", "trial-short"),
        ("host-drift", "window"),
    ],
)
def test_it_acts_as_in_a_trial_and_forgets_on_reset(saved, env, core):
    path = saved(env, core)
    controller = trmrl.load(path)
    config, _, train_state = restore(Run.open(path))
    trial, actions = lived_alone(env, config.agent, train_state.learner.model)
    first = act_along(controller, trial)
    assert first.dtype == actions.dtype
    np.testing.assert_allclose(first, actions, atol=1e-6)
    if env == "host-drift":  # there both run the very same compiled function
        np.testing.assert_array_equal(first, actions)
    remembering = act_along(controller, trial)
    controller.reset()
    np.testing.assert_array_equal(act_along(controller, trial), first)
    if env != "bandit-n6-k3":  # a choice may survive what a real number does not
        assert not np.array_equal(remembering, first)


class Digesting(AbstractAgent):
    """Its actions tell all that `adapt` was shown of earlier episodes, but how they ended."""

    plan: TaskPlan = TaskPlan()

    def init(self, spec, *, key):
        raise NotImplementedError

    def start(self, model, num_lanes):
        return jnp.zeros(1)

    def act(self, model, memory, timestep, *, explore, key):
        told = jnp.tanh(0.1 * jnp.broadcast_to(memory, timestep.prev_reward.shape))
        action = jnp.stack([told, model * told], axis=-1) + 0.1 * jnp.asarray(timestep.obs)
        return memory, Decision(action, told, told)

    def adapt(self, model, memory, episode):
        rows = jax.tree.map(jnp.asarray, episode)
        step = jnp.arange(len(rows.valid), dtype=jnp.float32)[:, None]
        told = (
            rows.outcome.reward * (step + 1)
            + (rows.outcome.next_obs + 2 * rows.timestep.obs + rows.decision.action).sum(axis=-1)
            + 3 * rows.timestep.prev_reward
        )
        told = jnp.where(rows.valid, told, 0.0).sum(axis=0)
        return memory + told.mean()

    def update(self, learner, trial, *, env_steps, key):
        raise NotImplementedError


@pytest.mark.parametrize("lanes_per_task", [1, 3])
def test_it_adapts_between_episodes_as_a_trial_does(drift, currents, lanes_per_task):
    """Told what an episode ended in, it goes on as `run_trial` does, early end and all."""
    agent, model = Digesting(TaskPlan(lanes_per_task=lanes_per_task)), jnp.asarray(0.5)
    envs, tasks = drift(host=True, num_episodes=3), currents([1], noise=0.1)
    trial = run_trial(Digesting(), model, envs, tasks, explore=False, key=jax.random.key(2))
    trial = jax.tree.map(np.asarray, trial.rows)
    assert trial.valid[0].sum() < trial.valid[0].size
    assert len(np.unique(trial.decision.value[:, 0])) == 3
    controller = Controller(agent, model, envs.spec, explore=False, seed=0)
    for _ in range(2):
        final = None
        for k, t in zip(*np.nonzero(trial.valid[:, :, 0]), strict=True):
            seen, at = trial.timestep, (k, t, 0)
            action = controller.act(
                seen.obs[at],
                float(seen.prev_reward[at]),
                episode_start=bool(seen.episode_start[at]),
                final_obs=final if t == 0 else None,
            )
            np.testing.assert_allclose(action, trial.decision.action[at], rtol=1e-5)
            final = trial.outcome.next_obs[at]
        controller.reset()


def test_an_endless_episode_is_digested_by_its_end(drift):
    """Of ten steps where six were trained on, the last six count."""
    model, spec = jnp.asarray(0.5), drift(host=True).spec
    obs = np.random.default_rng(0).normal(size=(11, 2)).astype(np.float32)
    endless, short = (Controller(Digesting(), model, spec, explore=False, seed=0) for _ in range(2))
    for t in range(10):
        endless.act(obs[t], reward=1.0)
    for t in range(4, 10):
        short.act(obs[t], reward=1.0)
    last = [c.act(obs[10], 2.0, episode_start=True, final_obs=obs[0]) for c in (endless, short)]
    # The one thing that differs: the reward shown before the first of the six, weighed by three.
    told = [np.arctanh(action[0] - 0.1 * obs[10, 0]) / 0.1 for action in last]
    assert told[0] - told[1] == pytest.approx(3.0, rel=1e-2)


@pytest.fixture(scope="module")
def controller(saved) -> Controller:
    return trmrl.load(saved("host-drift", "window"))


@pytest.mark.parametrize(
    ("obs", "reward", "expected"),
    [
        ([0.0, 0.0, 0.0], 0.0, r"obs has shape \[3\], drift expects \[2\]"),
        ([0.0], 0.0, r"obs has shape \[1\], drift expects \[2\]"),
        ([0.0, np.nan], 0.0, "not finite"),
        ([np.inf, 0.0], 0.0, "not finite"),
        ([0.0, 0.0], np.nan, "reward is not finite"),
    ],
)
def test_a_bad_observation_is_refused_and_leaves_no_trace(controller, obs, reward, expected):
    good = np.array([0.3, 0.1], np.float32)
    controller.reset()
    expected_actions = [controller.act(good), controller.act(good, 1.0)]
    controller.reset()
    actions = [controller.act(good)]
    with pytest.raises(TrmrlError, match=expected):
        controller.act(np.array(obs, np.float32), reward)
    actions.append(controller.act(good, 1.0))
    np.testing.assert_array_equal(actions, expected_actions)


def test_an_observation_of_doubles_is_welcome(controller):
    controller.reset()
    single = controller.act(np.array([0.5, 0.25], np.float32))
    controller.reset()
    np.testing.assert_array_equal(controller.act(np.array([0.5, 0.25])), single)


def test_exploring_follows_its_seed(saved):
    path, obs = saved("host-drift", "window"), np.zeros(2, np.float32)
    one, same, other = (trmrl.load(path, explore=True, seed=s) for s in (1, 1, 2))
    actions = [np.stack([c.act(obs), c.act(obs, 1.0)]) for c in (one, same, other)]
    np.testing.assert_array_equal(actions[0], actions[1])
    assert not np.array_equal(actions[0], actions[2])
    mode = trmrl.load(path)
    assert not np.array_equal(mode.act(obs), actions[0][0])


def test_every_trial_has_noise_of_its_own_that_the_seed_gives_again(saved):
    """Also z of PEARL and sampled arms: what is drawn after `reset()` is not what was before."""
    path, obs = saved("host-drift", "window"), np.zeros(2, np.float32)

    def trials(controller):
        actions = []
        for _ in range(3):
            actions.append(np.stack([controller.act(obs), controller.act(obs, 1.0)]))
            controller.reset()
        return actions

    first, again = (trials(trmrl.load(path, explore=True, seed=4)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert not np.array_equal(first[one], first[other])


def test_what_cannot_be_loaded_is_refused(tmp_path):
    with pytest.raises(TrmrlError, match="is not a run folder"):
        trmrl.load(tmp_path)
