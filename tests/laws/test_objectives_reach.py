"""Each objective trains the parts of a network that it declares, and every part has a phase."""

import functools
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.envs import make
from trmrl.learners.descent import OptimizerConfig
from trmrl.learners.objectives import (
    ELBO,
    AbstractObjective,
    Entropy,
    MaskedSteps,
    Novelty,
    Objectives,
    Prediction,
    Surrogate,
    Value,
)
from trmrl.learners.ppo import Joint, Separate
from trmrl.learners.stored import Replayed
from trmrl.nets.linear import MLP
from trmrl.nets.readout import BeliefConfig
from trmrl.ops.masked import mean
from trmrl.trial import run_trial
from trmrl.types import replace

T, B = 12, 3
KEY = jax.random.key(0)


class RowNumber(AbstractObjective):
    """One's own objective: a head guesses which row of the trial this is, and in which lane."""

    reaches: ClassVar[tuple[str, ...]] = ("core", "head")

    coef: float = 1.0

    def build(self, core, readout, spec, head, *, key):
        return MLP((core.feature_size, *head.hidden, 2), key=key)

    def targets(self, model, rows, *, key):
        time, lane = jnp.indices(rows.valid.shape).astype(jnp.float32)
        return {"place": jnp.stack([time, lane], axis=-1), "obs": rows.timestep.obs}

    def loss(self, network, reading, chunks):
        guess = network.heads["RowNumber"](reading.feature)
        error = (guess - chunks.targets["RowNumber"]["place"]) ** 2
        loss = 0.5 * mean(error.mean(axis=-1), chunks.valid)
        return loss, {"row_number_loss": loss}


MENU = {
    "surrogate": Surrogate(0.2),
    "entropy": Entropy(0.1),
    "prediction": Prediction(1.0),
    "own": RowNumber(),
    "value": Value(0.5),
    "value-gaussian": Value(0.5, "gaussian"),
}
ALL = Objectives(Entropy(0.1), Prediction(1.0), others=(RowNumber(),))
# What terms reach where a readout stops them, by the mode of its gradient.
BELIEVED = {
    "detached": {"policy": {"policy"}, "elbo": {"core", "readout", "head of ELBO"}},
    "joint": {"policy": {"core", "readout", "policy"}, "elbo": {"core", "readout", "head of ELBO"}},
    "split": {"policy": {"core", "policy"}, "elbo": {"readout", "head of ELBO"}},
}
VALUES = {"joint": Joint(0.5), "separate": Separate(OptimizerConfig())}


def test_the_menu_is_tested_whole():
    """An objective that is added to the menu has to be added here."""
    listed = {type(x) for x in jax.tree.leaves(Objectives(), is_leaf=is_objective)}
    # `BELIEVED` has the bound, and two tests below masked steps;
    # `tests/learners/test_novelty.py` has what reaches its own head alone.
    assert listed == {Entropy, Prediction, ELBO, Novelty, MaskedSteps}
    assert {Entropy, Prediction} <= {type(x) for x in MENU.values()}


def is_objective(x):
    return isinstance(x, AbstractObjective)


@pytest.fixture(scope="module")
def begin(small_agent, shake):
    """`begin(core, chunk_length, any field)`: an agent, its learner and a trial on a grid.

    Cut to 12 rows and three lanes, with shaken weights.
    """
    envs = make("grid-navi")
    envs = replace(envs, spec=replace(envs.spec, horizon=6, num_episodes=2))
    tasks = envs.sample_tasks("train", B, key=KEY)

    @functools.cache
    def run(core="gru", **fields):
        fields = {"objectives": ALL, "num_passes": 1, "minibatch_size": 12} | fields
        agent = small_agent(core, **fields)
        learner = agent.init(envs.spec, key=KEY)
        network = shake(learner.model.network)
        learner = replace(learner, model=replace(learner.model, network=network))
        trial = run_trial(agent, learner.model, envs, tasks, explore=True, key=KEY)
        return agent, learner, trial

    return run


def parts_of(network):
    """The parts of a network by name, every objective's head apart."""
    names = ["core", "policy", "critic"] + ["readout"] * bool(arrays(network.readout))
    parts = {name: getattr(network, name) for name in names}
    return parts | {f"head of {name}": head for name, head in network.heads.items()}


def arrays(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree) if eqx.is_inexact_array(x)]


def chunks_of(agent, learner, trial):
    rows = trial.rows.flatten_time()
    return agent.algorithm.chunk(
        learner.model, rows, agent.algorithm.credit(learner.model, rows), key=KEY
    )


def gradient_of(term, network, chunks):
    """The gradient of a term alone, by the part that it is of."""
    time_first = lambda x: jnp.swapaxes(x, 0, 1)
    rows = jax.tree.map(time_first, replace(chunks, memory0=None))

    def loss(network):
        reading = network.read(chunks.memory0, rows.token, rows.start, rows.valid)
        return term.loss(network, reading, rows)[0]

    return parts_of(jax.jit(jax.grad(loss))(network))


def reached(gradient):
    """The parts in which a gradient is not exactly zero."""
    return {part for part, tree in gradient.items() if any(np.any(x != 0) for x in arrays(tree))}


@pytest.mark.parametrize(("core", "chunk_length"), [("gru", 3), ("trial-whole", 0)])
@pytest.mark.parametrize("term", MENU.values(), ids=MENU)
def test_an_objective_reaches_what_it_declares_and_nothing_else(begin, term, core, chunk_length):
    agent, learner, trial = begin(core, chunk_length=chunk_length)
    network = learner.model.network
    assert set(network.heads) == {"Prediction", "RowNumber"}
    gradient = gradient_of(term, network, chunks_of(agent, learner, trial))
    head = f"head of {type(term).__name__}"
    assert reached(gradient) == {head if part == "head" else part for part in term.reaches}
    for part in reached(gradient):
        assert max(np.abs(x).max() for x in arrays(gradient[part])) > 1e-5


MASKED = Objectives(masked=MaskedSteps(1.0, mask_rate=0.5))


@pytest.mark.parametrize("core", ["gru", "trial-whole", "window"])
def test_masked_steps_reach_what_they_declare_and_nothing_else(begin, core):
    agent, learner, trial = begin(core, objectives=MASKED, chunk_length=0)
    chunks = chunks_of(agent, learner, trial)
    gradient = gradient_of(MASKED.masked, learner.model.network, chunks)
    assert reached(gradient) == {"core", "head of MaskedSteps"}
    for part in reached(gradient):
        assert min(np.abs(x).max() for x in arrays(gradient[part])) > 1e-6, part


def test_masked_steps_of_stored_trials_move_what_they_declare_and_nothing_else(begin):
    """Where PPO's own step is zero."""
    agent, learner, trial = begin(
        "window",
        objectives=Objectives(),
        optimizer=OptimizerConfig(learning_rate=0.0),
        replayed=Replayed(MASKED, capacity=8, num_updates=2, num_trials=2),
    )
    run = functools.partial(agent.algorithm.update, env_steps=jnp.zeros(()), key=KEY)
    after, metrics = jax.jit(run)(learner, trial)
    assert moved_by(learner, after) == {"core", "head of MaskedSteps"}
    assert np.isfinite(metrics["masked_obs_loss"])


def moved_by(before, after):
    """The parts of a network that an update changed."""
    old, new = parts_of(before.model.network), parts_of(after.model.network)
    return {
        part
        for part in old
        if any(
            not np.array_equal(a, b)
            for a, b in zip(arrays(old[part]), arrays(new[part]), strict=True)
        )
    }


@pytest.mark.parametrize(("core", "chunk_length"), [("gru", 0), ("trial-whole", 0)])
@pytest.mark.parametrize("gradient", BELIEVED)
def test_a_readout_stops_what_its_mode_says(begin, gradient, core, chunk_length):
    """Detached: no gradient of PPO's loss reaches the encoder, only that of the bound."""
    agent, learner, trial = begin(
        core,
        chunk_length=chunk_length,
        readout=BeliefConfig(2, gradient),
        objectives=Objectives(elbo=ELBO(1.0)),
    )
    chunks, expected = chunks_of(agent, learner, trial), BELIEVED[gradient]
    by_term = lambda term: reached(gradient_of(term, learner.model.network, chunks))
    assert by_term(Surrogate(0.2)) == by_term(Entropy(0.1)) == expected["policy"]
    assert by_term(Value(0.5)) == expected["policy"] - {"policy"} | {"critic"}
    assert by_term(ELBO(1.0)) == expected["elbo"]


@pytest.mark.parametrize("gradient", BELIEVED)
def test_an_update_moves_every_part_by_the_trial_at_hand_or_by_stored_ones(begin, gradient):
    """Where the step sizes of PPO are zero, what the bound reaches moves, and nothing else."""
    replayed = Replayed(Objectives(elbo=ELBO(1.0)), capacity=8, num_updates=2, num_trials=2)
    fields = {"readout": BeliefConfig(2, gradient), "objectives": Objectives()}
    for still in (False, True):
        rate = {"optimizer": OptimizerConfig(learning_rate=0.0)} if still else {}
        agent, learner, trial = begin("gru", chunk_length=0, replayed=replayed, **fields, **rate)
        run = functools.partial(agent.algorithm.update, env_steps=jnp.zeros(()), key=KEY)
        after, metrics = jax.jit(run)(learner, trial)
        assert np.isfinite(metrics["elbo_loss"])
        everything = set(parts_of(learner.model.network))
        expected = BELIEVED[gradient]["elbo"] if still else everything
        assert moved_by(learner, after) == expected
        assert int(after.store.count) == B


@pytest.mark.parametrize("error", ["squared", "gaussian"])
def test_a_value_on_tokens_reaches_no_core(begin, error):
    """And only the gaussian error reaches its own width."""
    agent, learner, trial = begin("gru", value_input="token")
    chunks = chunks_of(agent, learner, trial)
    gradient = gradient_of(Value(0.5, error), learner.model.network, chunks)
    assert reached(gradient) == {"critic"}
    assert (float(gradient["critic"].log_std) != 0) == (error == "gaussian")


@pytest.mark.parametrize("value_input", ["feature", "token"])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_every_floating_array_is_in_a_phase_and_nothing_else_is(
    small_agent, core_configs, value, value_input
):
    spec = make("grid-navi").spec
    for core in core_configs:
        agent = small_agent(core, objectives=ALL, value=value, value_input=value_input)
        fresh = lambda key, agent=agent: agent.init(spec, key=key).model.network
        network = jax.eval_shape(fresh, KEY)
        masks = [phase.part(network) for phase in agent.algorithm.phases(network)]
        changed = jax.tree.map(lambda *x: any(x), *masks)
        is_float = jax.tree.map(lambda x: jnp.issubdtype(x.dtype, jnp.inexact), network)
        assert jax.tree.structure(changed) == jax.tree.structure(network)
        assert jax.tree.leaves(changed) == jax.tree.leaves(is_float), core


@pytest.mark.parametrize("value_input", ["feature", "token"])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_what_an_objective_declares_is_in_the_phase_of_its_loss(begin, value, value_input):
    """Whatever a term reaches, the descent that its loss is part of may change."""
    agent, learner, _ = begin("gru", value=value, value_input=value_input)
    network = learner.model.network
    for phase in agent.algorithm.phases(network):
        mask = parts_of(phase.part(network))
        for term in phase.terms:
            names = [f"head of {type(term).__name__}" if x == "head" else x for x in term.reaches]
            if isinstance(term, Value) and value_input == "token":
                names.remove("core")
            for name in names:
                assert all(jax.tree.leaves(mask[name])), (phase.name, name)


@pytest.mark.parametrize("value_input", ["feature", "token"])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_an_update_with_every_objective_moves_every_part(begin, value, value_input):
    """Every array of it, the width of the gaussian error included."""
    agent, learner, trial = begin(
        "gru", value=value, value_input=value_input, value_error="gaussian", chunk_length=3
    )
    update = jax.jit(functools.partial(agent.algorithm.update, env_steps=jnp.zeros(()), key=KEY))
    after, metrics = update(learner, trial)
    old, new = parts_of(learner.model.network), parts_of(after.model.network)
    assert set(old) == {"core", "policy", "critic", "head of Prediction", "head of RowNumber"}
    for part in old:
        pairs = zip(arrays(old[part]), arrays(new[part]), strict=True)
        assert all(not np.array_equal(a, b) for a, b in pairs), part
    assert np.isfinite(metrics["row_number_loss"])


@pytest.mark.parametrize("chunk_length", [1, 3, 0])
def test_the_targets_of_ones_own_objective_are_cut_into_chunks(begin, chunk_length):
    """Row by row in order, one lane a chunk, whatever the shape of the targets."""
    agent, learner, trial = begin("gru", chunk_length=chunk_length)
    rows = trial.rows.flatten_time()
    chunks = chunks_of(agent, learner, trial)
    length = chunk_length or T
    place = np.asarray(chunks.targets["RowNumber"]["place"]).astype(int)
    assert place.shape == (T * B // length, length, 2)
    time, lane = place[..., 0], place[..., 1]
    assert len({(t, b) for t, b in place.reshape(-1, 2).tolist()}) == T * B
    np.testing.assert_array_equal(np.diff(time, axis=1), 1)
    np.testing.assert_array_equal(np.diff(lane, axis=1), 0)
    np.testing.assert_array_equal(time[:, 0] % length, 0)
    at = time, lane
    np.testing.assert_array_equal(chunks.targets["RowNumber"]["obs"], rows.timestep.obs[at])
    np.testing.assert_array_equal(chunks.action, rows.decision.action[at])
    np.testing.assert_array_equal(chunks.log_prob, rows.decision.log_prob[at])
    prediction = Prediction(1.0).targets(learner.model, rows, key=KEY)
    np.testing.assert_array_equal(chunks.targets["Prediction"], prediction[at])


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_ones_own_objective_is_learned(begin, value):
    """Its loss falls over the updates on one trial, which a head left untrained would not do."""
    optimizer = OptimizerConfig(0.01)
    agent, learner, trial = begin("gru", value=value, chunk_length=0, optimizer=optimizer)
    assert isinstance(learner.model.network.heads["RowNumber"], MLP)
    update = jax.jit(functools.partial(agent.algorithm.update, env_steps=jnp.zeros(()), key=KEY))
    losses = []
    for _ in range(20):
        learner, metrics = update(learner, trial)
        losses.append(float(metrics["row_number_loss"]))
    assert losses[-1] < 0.5 * losses[0]


def test_two_objectives_of_one_name_are_refused():
    spec = make("grid-navi").spec
    one, two = RowNumber(1.0), RowNumber(0.5)
    complaint = Objectives(others=(one, two)).check(spec)
    assert complaint == "others has RowNumber more than once"
    again = Objectives(prediction=Prediction(1.0), others=(Prediction(0.5), one))
    assert again.check(spec) == "others has Prediction more than once"
    for allowed in (
        Objectives(),
        ALL,
        Objectives(others=(one, RowNumber(0.0))),  # a coefficient of 0 leaves it out
        Objectives(others=(Prediction(1.0), one)),
    ):
        assert allowed.check(spec) is None
