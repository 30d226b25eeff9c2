"""Replaying a stored trial with the weights that acted in it gives a PPO ratio of one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.envs import make
from trmrl.learners.objectives import Surrogate
from trmrl.nets.readout import BeliefConfig
from trmrl.ops.normalize import Moments
from trmrl.trial import run_trial
from trmrl.types import replace

CASES = [
    ("bandit", "window", "trial"),
    ("bandit", "window", "episode"),
    ("bandit", "trial-whole", "trial"),
    ("drift", "window", "trial"),
    ("drift", "window", "episode"),
    ("drift", "trial-whole", "episode"),
    ("drift", "trial-short", "trial"),
    ("drift", "trial-transitions", "trial"),
    ("drift", "trial-rotary", "trial"),
    ("drift", "window-transitions", "episode"),
    ("drift", "gtrxl", "trial"),
    ("drift", "snail", "trial"),
    ("drift", "gru", "trial"),
    ("drift", "lstm", "trial"),
    ("bandit", "gru", "belief"),
    ("drift", "trial-short", "belief"),
]
CHUNKS = {"bandit": (1, 3, 0), "drift": (1, 4, 0)}


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def stored(request, small_agent, shake, drift, currents):
    """A trial of one world, core and scope, and what is needed to replay it."""
    world, core, scope = request.param
    fields = {"memory_scope": scope}
    if scope == "belief":  # policy and value read one
        fields = {"memory_scope": "trial", "readout": BeliefConfig(2)}
    agent = functools.partial(small_agent, core, **fields)
    key = jax.random.key(2)
    if world == "bandit":
        envs = make("bandit-n6-k3")
        tasks = envs.sample_tasks("train", 3, key=key)
    else:
        envs, tasks = drift(), currents(noise=0.1)
    model = agent().init(envs.spec, key=key).model
    size = envs.spec.obs_size
    moments = Moments(jnp.full(size, 0.3), jnp.full(size, 0.5), jnp.asarray(10.0))
    model = replace(model, network=shake(model.network), obs_moments=moments)
    trial = run_trial(agent(), model, envs, tasks, explore=True, key=key)
    return world, agent, model, jax.tree.map(jnp.asarray, trial.rows).flatten_time()


def replayed(ppo, model, rows, forget=False):
    """Largest distance of a valid row's ratio from one, and of its value from the stored one."""

    @jax.jit
    def read(model, rows):
        chunks = ppo.chunk(model, rows, ppo.credit(model, rows), key=jax.random.key(0))
        memory0 = None if forget else chunks.memory0
        time_first = lambda x: jnp.swapaxes(x, 0, 1)
        chunks = jax.tree.map(time_first, replace(chunks, memory0=None))
        network = model.network
        reading = network.read(memory0, chunks.token, chunks.start, chunks.valid)
        _, metrics = Surrogate(ppo.clip).loss(network, reading, chunks)
        ratio = jnp.exp(reading.policy.log_prob(chunks.action) - chunks.log_prob)
        return ratio, reading.value, chunks.valid, metrics

    ratio, value, valid, metrics = jax.tree.map(np.asarray, read(model, rows))
    num_rows, num_lanes = rows.valid.shape
    length = ppo.chunk_length or num_rows
    assert ratio.shape == (length, num_lanes * num_rows // length)
    # [C, chunks of time x lanes] back to [T, B], by hand
    back = lambda x: np.moveaxis(x.reshape(length, -1, num_lanes), 0, 1).reshape(num_rows, -1)
    ratio, value, valid = back(ratio), back(value), back(valid)
    np.testing.assert_array_equal(valid, np.asarray(rows.valid))
    stored = np.asarray(rows.decision.value)
    return np.abs(ratio - 1)[valid].max(), np.abs(value - stored)[valid].max(), metrics


def test_ratio_is_one_for_every_chunking(stored):
    world, agent, model, rows = stored
    if world == "drift":
        assert not np.asarray(rows.valid).all()  # some lanes ended early, or this shows less
    for chunk_length in CHUNKS[world]:
        ppo = agent(chunk_length=chunk_length).algorithm
        off, value_off, metrics = replayed(ppo, model, rows)
        assert off < 1e-5, f"chunk length {chunk_length}"
        assert value_off < 1e-5
        assert abs(metrics["kl"]) < 1e-6
        assert metrics["clip_fraction"] == 0


def test_without_its_memory_the_ratio_is_not_one(stored):
    """The law above can fail: a chunk that starts with an empty memory is another policy."""
    _, agent, model, rows = stored
    if agent().memory_scope == "episode":
        return  # an episode of one pull leaves nothing to remember
    off, _, metrics = replayed(agent(chunk_length=1).algorithm, model, rows, forget=True)
    assert off > 1e-2
    assert metrics["kl"] > 1e-5
