"""The bound by plain loops over rows, beliefs and trials; what it needs of an agent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.envs import make
from trmrl.learners.objectives import ELBO, Objectives
from trmrl.learners.objectives.elbo import choose_rows, divergences
from trmrl.learners.stored import Replayed
from trmrl.nets.distributions import Gaussian
from trmrl.nets.readout import BeliefConfig
from trmrl.trial import run_trial
from trmrl.types import TrmrlError, replace

T, B, LATENT = 6, 3, 2
ROWS, M, L = 7, 3, 2  # of beliefs without an agent
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def world():
    envs = make("grid-navi")
    return replace(envs, spec=replace(envs.spec, horizon=3, num_episodes=2))


@pytest.fixture(scope="module")
def begin(small_agent, shake, world):
    """`begin(ELBO)`: network, reading and rows, with invalid ones, of three trials of six rows."""

    def run(elbo, **fields):
        agent = small_agent(
            "gru",
            readout=BeliefConfig(LATENT, "joint"),
            objectives=Objectives(elbo=elbo),
            chunk_length=0,
            **fields,
        )
        learner = agent.init(world.spec, key=KEY)
        model = replace(learner.model, network=shake(learner.model.network))
        tasks = world.sample_tasks("train", B, key=KEY)
        rows = run_trial(agent, model, world, tasks, explore=True, key=KEY).rows.flatten_time()
        valid = rows.valid.at[2, 0].set(False).at[4:, 1].set(False)
        # Rewards of both signs, so that a sign lost in the error shows.
        reward = jax.random.normal(KEY, valid.shape)
        rows = replace(rows, valid=valid, outcome=replace(rows.outcome, reward=reward))
        chunks = agent.algorithm.chunk(model, rows, agent.algorithm.credit(model, rows), key=KEY)
        chunks = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), chunks)
        reading = model.network.read(None, chunks.token, chunks.start, chunks.valid)
        return model.network, reading, chunks, rows

    return run


def kl(mean, std, other_mean, other_std):
    """Of two diagonal Gaussians, from the textbook."""
    ratio = (std**2 + (mean - other_mean) ** 2) / (2 * other_std**2)
    return float(np.sum(np.log(other_std / std) + ratio - 0.5))


@pytest.mark.parametrize("reward_kind", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("obs_coef", [0.0, 0.7])
def test_the_bound_by_definition(begin, reward_kind, obs_coef):
    """A sum over the rows whose belief decodes and the rows decoded, and over all divergences."""
    elbo = ELBO(1.0, 0.3, 0, 1.5, obs_coef, reward_kind, (8, 6))
    network, reading, chunks, rows = begin(elbo)
    loss, metrics = elbo.loss(network, reading, chunks)
    belief = network.readout.belief(reading.feature)
    mean, std = np.asarray(belief.mean), np.exp(np.asarray(belief.log_std))
    latent = jnp.asarray(mean + std * np.asarray(chunks.targets["ELBO"]["noise"]))
    shown = chunks.targets["ELBO"]
    decoder = network.heads["ELBO"]
    decoded = np.asarray(decoder(latent, shown["obs"], chunks.action, shown["next_obs"]))
    reward, valid = np.asarray(rows.outcome.reward), np.asarray(chunks.valid)
    errors, kls = np.zeros(B), np.zeros(B)
    for b in range(B):
        before = np.zeros(LATENT), np.ones(LATENT)
        for t in np.flatnonzero(valid[:, b]):
            kls[b] += kl(mean[t, b], std[t, b], *before)
            before = mean[t, b], std[t, b]
            for i in np.flatnonzero(valid[:, b]):
                said = decoded[t, i, b]
                if reward_kind == "gaussian":
                    errors[b] += 1.5 * 0.5 * (said[0] - reward[i, b]) ** 2
                else:
                    paid = 1 / (1 + np.exp(-said[0]))
                    errors[b] -= 1.5 * np.log(paid if reward[i, b] > 0 else 1 - paid)
                next_obs = np.asarray(shown["next_obs"])[i, b]
                errors[b] += obs_coef * 0.5 * np.mean((said[1:] - next_obs) ** 2)
    expected = np.mean(errors + 0.3 * kls) / T**2
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert float(metrics["reconstruction_loss"]) == pytest.approx(np.mean(errors) / T**2, rel=1e-4)
    assert float(metrics["belief_kl"]) == pytest.approx(kls.sum() / valid.sum(), rel=1e-4)
    assert kls.min() > 0  # the prior is in it


def test_observations_are_decoded_as_they_are_shown(begin):
    """Normalized like the tokens, or not."""
    _, _, chunks, rows = begin(ELBO(1.0), normalize_obs=False)
    np.testing.assert_array_equal(chunks.targets["ELBO"]["next_obs"], rows.outcome.next_obs)
    _, _, chunks, _ = begin(ELBO(1.0))
    np.testing.assert_array_equal(chunks.targets["ELBO"]["obs"], chunks.token[..., :2])


@pytest.mark.parametrize("num_beliefs", [1, 2, 4])
def test_few_beliefs_give_the_same_bound_on_average(begin, num_beliefs):
    """Over 3,000 draws of which of them are decoded, within four standard errors."""
    elbo = ELBO(1.0, 0.3, num_beliefs)
    network, reading, chunks, _ = begin(elbo)

    def loss(number):
        targets = chunks.targets["ELBO"] | {"number": number}
        return elbo.loss(network, reading, replace(chunks, targets={"ELBO": targets}))[0]

    numbers = jax.random.uniform(KEY, (3_000, T, B))
    found = np.asarray(jax.jit(jax.vmap(loss))(numbers))
    whole = float(ELBO(1.0, 0.3, 0).loss(network, reading, chunks)[0])
    assert found.std() > 0
    assert abs(found.mean() - whole) < 4 * found.std() / np.sqrt(3_000)


def test_without_a_belief_it_is_refused(small_agent, world):
    agent = small_agent("gru", replayed=Replayed(objectives=Objectives(elbo=ELBO(1.0))))
    with pytest.raises(TrmrlError) as refusal:
        agent.init(world.spec, key=KEY)
    expected = "ELBO needs a readout with a belief, which this agent does not have"
    assert str(refusal.value) == expected


def beliefs(seed=0):
    noise = np.random.default_rng(seed)
    return noise.normal(size=(ROWS, M, L)), np.exp(0.5 * noise.normal(size=(ROWS, M, L)))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_divergences_by_definition(seed):
    """To the belief before that happened, or to the prior: at the first row and at every start."""
    noise = np.random.default_rng(seed)
    mean, std = beliefs(seed)
    start, valid = noise.random((ROWS, M)) < 0.2, noise.random((ROWS, M)) < 0.7
    found = divergences(
        Gaussian(jnp.asarray(mean, jnp.float32), jnp.log(jnp.asarray(std, jnp.float32))),
        jnp.asarray(start),
        jnp.asarray(valid),
    )
    expected = np.zeros((ROWS, M))
    for m in range(M):
        before = np.zeros(L), np.ones(L)
        for t in range(ROWS):
            if not valid[t, m]:
                continue
            if start[t, m]:
                before = np.zeros(L), np.ones(L)
            expected[t, m] = kl(mean[t, m], std[t, m], *before)
            before = mean[t, m], std[t, m]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert 0 < valid.sum() < valid.size


def test_a_divergence_is_what_samples_say():
    """The mean of `log q - log p` over 200,000 draws of q."""
    mean, std = beliefs()
    noise = np.random.default_rng(0)
    draws = mean[1] + std[1] * noise.normal(size=(200_000, M, L))
    log_density = lambda i: (-0.5 * ((draws - mean[i]) / std[i]) ** 2 - np.log(std[i])).sum(-1)
    sampled = np.mean(log_density(1) - log_density(0), axis=0)
    both = Gaussian(jnp.asarray(mean[:2], jnp.float32), jnp.log(jnp.asarray(std[:2], jnp.float32)))
    never = jnp.zeros((2, M), bool)
    np.testing.assert_allclose(divergences(both, never, ~never)[1], sampled, rtol=0.03)


def test_gradients_reach_both_beliefs():
    mean, std = beliefs()
    never = jnp.zeros((ROWS, M), bool)

    def second(mean):
        log_std = jnp.log(jnp.asarray(std, jnp.float32))
        return divergences(Gaussian(mean, log_std), never, ~never)[1].sum()

    gradient = np.asarray(jax.grad(second)(jnp.asarray(mean, jnp.float32)))
    assert np.all(gradient[:2] != 0)
    assert not np.any(gradient[2:])


@pytest.mark.parametrize("num_strata", [1, 3, ROWS])
def test_chosen_rows_stand_for_all_without_bias(num_strata):
    """Whatever is summed over rows, the weighted sum over the chosen ones has its expectation."""
    x = np.random.default_rng(0).normal(size=ROWS)
    numbers = jax.random.uniform(jax.random.key(0), (ROWS, 20_000))
    rows, weight = jax.jit(choose_rows, static_argnums=1)(numbers, num_strata)
    assert rows.shape == (num_strata, 20_000)
    assert float(weight.sum()) == ROWS
    rows, weight = np.asarray(rows), np.asarray(weight)
    estimates = (weight[:, None] * x[rows]).sum(axis=0)
    error = estimates.std() / np.sqrt(20_000)
    assert abs(estimates.mean() - x.sum()) <= 4 * error + 1e-5
    low = np.concatenate([[0], np.cumsum(weight)])[:-1]
    assert np.all(rows >= low[:, None])
    assert np.all(rows < (low + weight)[:, None])
    assert len(np.unique(rows)) == ROWS  # every row is chosen by some
