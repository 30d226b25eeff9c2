"""Attention along a trial, and which past tokens move the policy."""

import jax
import jax.numpy as jnp
import numpy as np

from trmrl.analyze.attention import attention, influence, summarize


def test_entropy_and_age_by_hand():
    """Two steps of two lanes and one head; the second lane is idle at the second step."""
    weight = np.array([[[[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]],
                       [[[0.5, 0.0, 0.5]], [[0.2, 0.3, 0.5]]]])  # fmt: skip
    found = summarize(weight, np.array([[True, True], [True, False]]))
    np.testing.assert_allclose(found["entropy"], [[0.0], [np.log(2.0)]], atol=1e-12)
    np.testing.assert_allclose(found["look_back"], [[0.5], [1.0]])


def test_influence_ends_where_the_window_does(subject_of, worlds, currents):
    """Two layers over windows of 3 encoded afresh: three tokens reach a policy, and no other."""
    subject = subject_of("window", worlds())
    rows = subject.roll_out(currents(wall=[9.0] * 4)).rows
    kl = influence(subject.model, rows)[11]
    assert rows.valid.all() and kl.shape == (12, 4)
    assert (kl[:3] > 1e-6).all()
    np.testing.assert_allclose(kl[3:], 0.0, atol=1e-6)


def test_influence_is_the_change_of_the_policy(subject_of, worlds, currents):
    """Of a token replaced by hand, by the same core stepped."""
    subject = subject_of("gru", worlds(horizon=3, num_episodes=1))
    rows = subject.roll_out(currents(lanes=(0, 1, 2), wall=[9.0] * 4)).rows
    flat = jax.tree.map(jnp.asarray, rows.flatten_time())
    tokens, start = subject.model.tokens(flat.timestep)
    network = subject.model.network
    means = []
    for given in (tokens, tokens.at[1].set(jnp.broadcast_to(tokens[1].mean(0)[None], (3, 6)))):
        memory = network.core.start(3)
        for t in range(3):
            memory, feature = network.core.step(memory, given[t], start[t])
        means.append(np.asarray(network.policy(feature).mean))
    std = np.exp(np.asarray(network.policy(feature).log_std))
    expected = (0.5 * ((means[0] - means[1]) / std) ** 2).sum(axis=1)
    assert rows.valid.all() and expected.max() > 1e-3
    np.testing.assert_allclose(influence(subject.model, rows)[2][1], expected, rtol=1e-3)


def test_a_core_without_attention_is_one_line_and_the_rest_is_made(subject_of, worlds):
    found = attention(subject_of("gru", worlds()))
    assert "a GRU attends to nothing: there are no attention weights" in found.lines
    assert [figure.name for figure in found.figures] == ["influence"]


def test_maps_and_lines_of_every_layer_and_head(subject_of, worlds):
    found = attention(subject_of("trial-whole", worlds(host=True)))
    names = {figure.name: figure for figure in found.figures}
    assert set(names) == {
        "influence",
        "attention-layer 1",
        "attention-layer 2",
        "look-back",
        "entropy",
    }
    assert len(names["entropy"].series) == 4  # two layers of two heads
    assert found.arrays["weight/layer 1"].shape == (12, 6, 2, 12)
    assert max(found.numbers["layer 1"]["entropy"][0]) < 1e-5  # a first token is alone
    values = names["attention-layer 1"].values
    assert np.isnan(values[1, 0]) and values[0, 0] == 1.0


def test_ages_that_nothing_reaches_are_not_drawn(subject_of, worlds):
    """A window of three tokens: ages 0 to 2, and one more to show that there is nothing.

    Episodes of one step, since of lanes that have ended early the newest token is older.
    """
    found = attention(subject_of("window", worlds(horizon=1, num_episodes=12)))
    names = {figure.name: figure for figure in found.figures}
    assert names["attention-layer 1"].values.shape == (4, 12)
    assert [len(series.x) for series in names["influence"].series] == [3, 4, 4]  # of 3, 6 and 12
    assert found.arrays["weight/layer 1"].shape[-1] == 12
