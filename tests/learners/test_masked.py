"""Masked steps: a loss by plain loops, and what is asked for is never in what is read."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.learners.objectives import MaskedSteps, Objectives
from trmrl.learners.stored import Replayed
from trmrl.trial import run_trial
from trmrl.types import (
    Continuous,
    Decision,
    Discrete,
    EnvSpec,
    Outcome,
    Timestep,
    Trajectory,
    replace,
)

T, B, D, A = 7, 3, 2, 3
KEY = jax.random.key(0)
CORES = ["window-transitions", "trial-whole", "trial-transitions", "gru"]
SPACES = {"choices": Discrete(A), "numbers": Continuous(A)}


def random_rows(space):
    """Two episodes of a trial, rows `[T, B]`: some never happened, one lane has a new memory."""
    noise = np.random.default_rng(0)
    number = lambda *size: jnp.asarray(noise.normal(size=(T, B, *size)), jnp.float32)
    choice = jnp.asarray(noise.integers(0, A, (T, B)), jnp.int32)
    action = choice if isinstance(space, Discrete) else number(A)
    before = jnp.asarray(space.encode(jnp.roll(action, 1, axis=0)))
    start, valid = np.zeros((2, T, B), bool)
    start[0], start[4, 1] = True, True
    valid[:] = True
    valid[2:4, 0] = valid[6, 2] = False
    timestep = Timestep(number(D), before, number(), jnp.asarray(start), jnp.asarray(start))
    never = jnp.zeros((T, B), bool)
    outcome = Outcome(number(), never, never, number(D))
    return Trajectory(timestep, Decision(action, number(), number()), outcome, jnp.asarray(valid))


@pytest.fixture(scope="module")
def begin(small_agent, shake):
    """`begin(core, space, any field of MaskedSteps)`: term, network, model and chunks."""

    @functools.cache
    def run(core="gru", space="choices", **fields):
        term = MaskedSteps(**({"coef": 1.0, "mask_rate": 0.5} | fields))
        agent = small_agent(core, objectives=Objectives(masked=term), chunk_length=0)
        spec = EnvSpec("any", "test", D, SPACES[space], T, 1)
        learner = agent.init(spec, key=KEY)
        model = replace(learner.model, network=shake(learner.model.network))
        rows, ppo = random_rows(SPACES[space]), agent.algorithm
        chunks = ppo.chunk(model, rows, ppo.credit(model, rows), key=KEY)
        chunks = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), chunks)
        network = model.network

        @jax.jit
        def loss(network):
            reading = network.read(None, chunks.token, chunks.start, chunks.valid)
            return term.loss(network, reading, chunks)

        return SimpleNamespace(term=term, model=model, network=network, chunks=chunks, loss=loss)

    return run


def later_by_hand(valid, start, lag):
    """Of each row that counts, the row it is read at: a loop over pairs."""
    pairs = {}
    for lane in range(B):
        happened = np.flatnonzero(valid[:, lane])
        for row, later in zip(happened[:-lag], happened[lag:], strict=True):
            if not start[row + 1 : later + 1, lane][valid[row + 1 : later + 1, lane]].any():
                pairs[row, lane] = later
    return pairs


@pytest.mark.parametrize("lag", [1, 2])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("core", ["window-transitions", "gru"])
def test_the_loss_by_definition(begin, core, space, lag):
    """The core steps through masked tokens, row by row; every error is worked in NumPy."""
    begun = begin(core, space, lag=lag)
    network, chunks = begun.network, begun.chunks
    loss, metrics = begun.loss(network)
    head, rows = network.heads["MaskedSteps"], random_rows(SPACES[space])
    masked = np.asarray(chunks.targets["MaskedSteps"]["masked"])
    valid, start = np.asarray(chunks.valid), np.asarray(chunks.start)
    token = np.array(chunks.token)
    token[masked, :-1] = np.asarray(head.mask)
    feature, memory = np.zeros((T, B, 8), np.float32), network.core.start(B)
    step = jax.jit(lambda *args: network.core.step(*args))
    for t in range(T):
        after, feature[t] = step(memory, jnp.asarray(token[t]), chunks.start[t])
        keep = lambda new, old, t=t: jnp.where(
            jnp.asarray(valid[t]).reshape((-1,) + (1,) * (new.ndim - 1)), new, old
        )
        memory = jax.tree.map(keep, after, memory)
    reward = np.asarray(rows.timestep.prev_reward)
    known = reward[valid & ~start]
    reward = (reward - known.mean()) / known.std()
    errors = {"obs": [], "action": [], "reward": []}
    for (row, lane), later in later_by_hand(valid, start, lag).items():
        if not masked[row, lane]:
            continue
        said = np.asarray(head.content(jnp.asarray(feature[later, lane])))
        obs = np.asarray(rows.timestep.obs)[row, lane]
        errors["obs"].append(0.5 * np.mean((said[:D] - obs) ** 2))
        if start[row, lane]:
            continue
        errors["reward"].append(0.5 * (said[-1] - reward[row, lane]) ** 2)
        logits, action = said[D:-1], np.asarray(rows.timestep.prev_action)[row, lane]
        if space == "choices":
            errors["action"].append(np.log(np.exp(logits).sum()) - logits[action.argmax()])
        else:
            errors["action"].append(0.5 * np.mean((logits - action) ** 2))
    assert len(errors["obs"]) > len(errors["reward"]) > 1  # starts are among them
    for name, values in errors.items():
        found = metrics[f"masked_{name}_loss"]
        assert float(found) == pytest.approx(np.mean(values), rel=1e-4), name
    assert float(loss) == pytest.approx(sum(np.mean(v) for v in errors.values()), rel=1e-4)


@pytest.mark.parametrize("core", CORES)
def test_a_masked_step_is_never_in_what_reconstructs_it(begin, core):
    """Whatever it holds, no bit of its reconstruction changes; what is not masked is read."""
    begun = begin(core)
    masked = begun.chunks.targets["MaskedSteps"]["masked"]

    @jax.jit
    def reconstructed(token):
        content, counts = begun.term.reconstruct(begun.network, replace(begun.chunks, token=token))
        return [
            jnp.where(counts.reshape(counts.shape + (1,) * (x.ndim - 2)), x, 0) for x in content
        ]

    token = begun.chunks.token
    noise = jnp.asarray(np.random.default_rng(1).normal(size=token.shape), token.dtype)
    hidden = jnp.broadcast_to(masked[..., None], token.shape).at[..., -1].set(False)
    as_it_is, changed = reconstructed(token), reconstructed(jnp.where(hidden, noise, token))
    assert all(np.array_equal(x, y) for x, y in zip(as_it_is, changed, strict=True))
    gradient = np.asarray(jax.grad(lambda t: sum(jnp.sum(x**2) for x in reconstructed(t)))(token))
    assert not gradient[np.asarray(hidden)].any()
    shown = np.asarray(~masked & begun.chunks.valid)
    assert np.abs(gradient[shown]).max() > 1e-4


@pytest.mark.parametrize("core", CORES)
def test_a_step_is_reconstructed_from_both_sides(begin, core):
    """A guess at row 2 of lane 1 feels the rows before it and the one after, and none later."""
    begun = begin(core, mask_rate=0.0)  # nothing is masked here: whatever is read shows

    def reconstructed(token):
        content, _ = begun.term.reconstruct(begun.network, replace(begun.chunks, token=token))
        return content[0][2, 1].sum()

    felt = np.abs(np.asarray(jax.jit(jax.grad(reconstructed))(begun.chunks.token))).max(axis=-1)
    assert felt[1, 1] > 1e-6
    assert felt[3, 1] > 1e-6
    assert not felt[4:].any()
    assert not felt[:, [0, 2]].any()


def test_a_learned_vector_stands_for_what_is_masked_and_learns(begin):
    """It begins as zeros; the flag of a boundary stays."""
    begun = begin("trial-whole")
    head = begun.network.heads["MaskedSteps"]
    masked = begun.chunks.targets["MaskedSteps"]["masked"]
    found = np.asarray(head.hide(begun.chunks.token, masked))
    np.testing.assert_array_equal(found[..., -1], begun.chunks.token[..., -1])
    np.testing.assert_array_equal(found[~masked], begun.chunks.token[~masked])
    assert np.all(found[np.asarray(masked)][:, :-1] == np.asarray(head.mask))
    gradient = jax.grad(lambda network: begun.loss(network)[0])(begun.network).heads["MaskedSteps"]
    assert np.abs(gradient.mask).max() > 1e-4


def test_the_share_that_is_masked_and_its_key(begin):
    term, model, rows = MaskedSteps(1.0), begin().model, random_rows(Discrete(A))
    wide = jax.tree.map(lambda x: jnp.repeat(x, 2_000, axis=1), rows)
    masked = lambda key: np.asarray(term.targets(model, wide, key=key)["masked"])
    one = masked(KEY)
    assert abs(one.mean() - 0.15) < 4 * np.sqrt(0.15 * 0.85 / one.size)
    assert np.array_equal(one, masked(KEY))
    assert not np.array_equal(one, masked(jax.random.key(1)))


def test_where_nothing_is_masked_nothing_is_learned(begin):
    begun = begin(mask_rate=0.0)
    loss, metrics = begun.loss(begun.network)
    assert float(loss) == 0.0
    assert set(metrics) == {"masked_obs_loss", "masked_action_loss", "masked_reward_loss"}


def test_acting_is_the_same_bit_for_bit(small_agent, drift, currents):
    """With the objective on, the weights that act begin the same; so are tokens and trials."""
    envs, trials = drift(), []
    for term in (MaskedSteps(0.0), MaskedSteps(1.0)):
        agent = small_agent("window", replayed=Replayed(Objectives(masked=term)))
        model = agent.init(envs.spec, key=KEY).model
        trial = run_trial(agent, model, envs, currents(), explore=True, key=KEY)
        trials.append((trial.rows, model.tokens(trial.rows.timestep), model.network.core))
    leaves = [jax.tree.leaves(trial) for trial in trials]
    assert all(np.array_equal(x, y) for x, y in zip(*leaves, strict=True))


def test_a_lag_that_no_trial_has_is_a_complaint():
    spec = EnvSpec("any", "test", D, Discrete(A), T, 1)
    assert MaskedSteps(1.0, lag=T - 1).check(spec) is None
    assert MaskedSteps(0.0, lag=T).check(spec) is None  # it is off
    expected = f"lag is {T}, expected less than the {T} steps of a trial"
    assert MaskedSteps(1.0, lag=T).check(spec) == expected
