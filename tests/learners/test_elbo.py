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
from trmrl.types import TrmrlError, replace, task_numbers

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


@pytest.mark.parametrize("reward_kind", ["gaussian", "bernoulli", "symlog"])
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
                elif reward_kind == "symlog":
                    size = np.log(1 + abs(reward[i, b]))
                    shown_as = size if reward[i, b] > 0 else -size
                    errors[b] += 1.5 * 0.5 * (said[0] - shown_as) ** 2
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


@pytest.mark.parametrize("num_beliefs", [0, 2])
def test_the_task_is_one_step_more(begin, num_beliefs):
    """With a coefficient every belief that decodes explains the task's numbers, too, once."""
    elbo = ELBO(1.0, 0.3, num_beliefs, task_coef=0.7)
    network, reading, chunks, _ = begin(elbo)
    task = np.random.default_rng(0).normal(size=(B, 4)).astype(np.float32)
    with_task = replace(chunks, task=jnp.broadcast_to(task[None], (T, B, 4)))
    loss, _ = elbo.loss(network, reading, with_task)
    without, _ = ELBO(1.0, 0.3, num_beliefs).loss(network, reading, chunks)
    belief = network.readout.belief(reading.feature)
    noise = chunks.targets["ELBO"]["noise"]
    decoded = network.heads["ELBO"].task(belief.mean + jnp.exp(belief.log_std) * noise)
    rows, weight = choose_rows(chunks.targets["ELBO"]["number"], num_beliefs or T)
    rows, weight, valid = np.asarray(rows), np.asarray(weight), np.asarray(chunks.valid)
    errors = np.zeros(B)
    for b in range(B):
        for k, t in enumerate(rows[:, b]):
            square = (np.asarray(decoded)[t, b] - task[b]) ** 2
            errors[b] += weight[k] * 0.7 * 0.5 * square.mean() * valid[t, b]
    assert errors.min() > 0
    assert float(loss) == pytest.approx(float(without) + errors.mean() / T**2, rel=1e-4)


def test_worlds_that_do_not_say_what_a_task_is_decode_none():
    complaint = ELBO(1.0, task_coef=0.5).check(make("tabular-n2").spec)
    assert complaint.startswith("task_coef is 0.5, expected 0: the spec of tabular-n2 does not say")
    for allowed in (ELBO(1.0), ELBO(0.0, task_coef=0.5)):
        assert allowed.check(make("tabular-n2").spec) is None
    assert ELBO(1.0, task_coef=0.5).check(make("grid-navi").spec) is None


@pytest.mark.parametrize("task_coef", [0.0, 0.5])
def test_the_task_is_a_target_of_training_and_nothing_else(small_agent, world, task_coef):
    """Another task behind the same rows changes what is learned, if it is decoded; no token."""
    replayed = Replayed(
        Objectives(elbo=ELBO(1.0, task_coef=task_coef)), capacity=4, num_updates=1, num_trials=2
    )
    agent = small_agent("gru", readout=BeliefConfig(LATENT), chunk_length=0, replayed=replayed)
    learner = agent.init(world.spec, key=KEY)
    tasks = world.sample_tasks("train", B, key=KEY)
    trial = run_trial(agent, learner.model, world, tasks, explore=True, key=KEY)
    other = replace(trial, task=jax.tree.map(lambda x: x + 1, trial.task))
    update = jax.jit(
        lambda learner, trial: agent.update(learner, trial, env_steps=jnp.zeros(()), key=KEY)[0]
    )
    after = [update(learner, x) for x in (trial, other)]
    leaves = lambda part: [np.asarray(x) for x in jax.tree.leaves(part)]
    same = lambda one, two: all(map(np.array_equal, leaves(one), leaves(two)))
    assert same(after[0].model, after[1].model) == (task_coef == 0.0)
    assert same(after[0].store.rows, after[1].store.rows)
    tokens = [x.model.tokens(trial.rows.timestep) for x in after]
    assert same(*tokens)
    if task_coef:
        np.testing.assert_array_equal(after[0].store.task[:B], task_numbers(tasks))
    else:
        assert after[0].store.task is None


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
