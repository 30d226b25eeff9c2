"""The room of hidden rules, by hand."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from trmrl.envs import make
from trmrl.envs.base import keys_for
from trmrl.envs.recipe_room import NOTHING, PRODUCT, Bench, rule_sets
from trmrl.types import replace

UP, RIGHT, DOWN, LEFT, STAY = range(5)


def test_rule_sets_are_every_pair_and_third_and_are_divided():
    rules = rule_sets()
    assert len({tuple(rule) for rule in rules}) == len(rules) == 30
    assert all(len(set(rule)) == 3 and rule[0] < rule[1] for rule in rules)
    drawn = {}
    for split, number in (("train", 24), ("test", 6)):
        tasks = make("recipe-room").sample_tasks(split, 60, key=jax.random.key(0))
        joined = np.concatenate([tasks["makes"], tasks["meets"][:, None]], axis=1)
        drawn[split] = {tuple(row) for row in joined.tolist()}
        assert len(drawn[split]) == number
    assert not drawn["train"] & drawn["test"]


def test_an_episode_by_hand():
    """Things 0 to 4 lie in a row, and 1 and 3 make the product, which 0 must meet."""
    envs = make("recipe-room")
    tasks = {"makes": jnp.asarray([[1, 3]]), "meets": jnp.asarray([0])}
    env_state, first = envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))
    assert first.shape == (1, envs.spec.obs_size)
    row = jnp.stack([jnp.arange(6), jnp.full(6, 2)], axis=1)[None]  # kind k at (k, 2)
    bench = Bench(jnp.asarray([[1, 1]]), row, jnp.arange(6)[None] < PRODUCT, jnp.asarray([NOTHING]))
    state = replace(env_state, inner=bench)
    step = jax.jit(envs.step)

    def after(state, *actions):
        for action in actions:
            state, outcome = step(state, jnp.asarray([action]))
        fields = {name: np.asarray(x)[0].tolist() for name, x in vars(state.inner).items()}
        inner = SimpleNamespace(**fields)
        return state, outcome, inner

    state, outcome, inner = after(state, UP)  # takes 1
    lies = np.asarray([True, False, True, True, True, False])
    assert (inner.cell, inner.hand) == ([1, 2], 1)
    x, y, *ways = np.asarray(outcome.next_obs[0, :14] * 5).round().tolist()
    assert (x, y, ways[2:4], ways[4:6], ways[10:]) == (1, 2, [0, 0], [1, 0], [0, 0])
    np.testing.assert_array_equal(outcome.next_obs[0, 14:20], lies)
    np.testing.assert_array_equal(outcome.next_obs[0, 20:], np.eye(7)[1])
    state, _, inner = after(state, RIGHT)  # 1 and 2 make nothing: they change places
    assert (inner.hand, inner.place[1], inner.lies[1:3]) == (2, [2, 2], [True, False])
    state, _, inner = after(state, STAY)  # who stays meets nothing
    assert inner.hand == 2
    state, outcome, inner = after(state, DOWN, UP, RIGHT)  # 1 again, then 3: the product
    assert (inner.hand, inner.place[2]) == (PRODUCT, [2, 2])
    assert inner.lies == [True, False, True, False, True, False]
    state, outcome, inner = after(state, RIGHT)  # it meets 4: not this one
    assert (inner.hand, inner.lies[PRODUCT], outcome.reward[0]) == (4, True, 0.0)
    state, outcome, inner = after(state, LEFT, RIGHT)
    assert inner.hand == PRODUCT and not outcome.terminated[0]
    state, outcome, _ = after(state, DOWN, LEFT, LEFT, LEFT, LEFT, UP)  # and 0: solved
    assert outcome.reward[0] == 1.0 and outcome.terminated[0] and outcome.success[0]


def test_places_are_drawn_anew_and_all_differ():
    envs = make("recipe-room")
    tasks = envs.sample_tasks("train", 8, key=jax.random.key(0))
    env_state, _ = envs.reset(tasks, key=keys_for(tasks, jax.random.key(1)))
    bench = env_state.inner
    everything = np.concatenate([bench.cell[:, None], bench.place[:, :PRODUCT]], axis=1)
    for lane in everything:
        assert len(np.unique(lane, axis=0)) == PRODUCT + 1
    assert len({lane.tobytes() for lane in everything}) == 8
