"""What `inspect` records is what `step` computes, and costs `step` nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

T, B, D = 7, 3, 4
NAMES = [
    "window", "window-transitions", "trial-whole", "trial-short", "trial-transitions",
    "trial-rotary", "window-rotary",
    "pre-norm", "post-norm", "gtrxl", "snail", "gru", "lstm",
]  # fmt: skip
ATTEND = [name for name in NAMES if name not in ("gru", "lstm")]
REACH = {"window": 3, "window-transitions": 3, "post-norm": 3, "trial-short": 4,
         "trial-transitions": 4, "trial-rotary": 4, "window-rotary": 3, "gtrxl": 4}  # fmt: skip
START = np.zeros((T, B), bool)
START[0] = START[4, 1] = True  # lane 1 forgets before its fifth token


@pytest.fixture(scope="module")
def inspected(request, shaken_core):
    """A core, and its features by `step` and its records, of every step of `T`."""
    core = shaken_core(request.param, D, T)
    token = jnp.asarray(np.random.default_rng(0).normal(size=(T, B, D)), jnp.float32)
    step = jax.jit(lambda *x: core.step(*x))
    inspect = jax.jit(lambda *x: core.inspect(*x))
    memory, steps = core.start(B), []
    for t in range(T):
        start = jnp.asarray(START[t])
        after, feature = step(memory, token[t], start)
        same, again, record = inspect(memory, token[t], start)
        steps.append((feature, again, record))
        for one, other in zip(jax.tree.leaves(after), jax.tree.leaves(same), strict=True):
            np.testing.assert_array_equal(one, other)
        memory = after
    return request.param, core, steps


def every(names):
    return pytest.mark.parametrize("inspected", names, indirect=True)


@every(NAMES)
def test_the_feature_is_that_of_step(inspected):
    name, core, steps = inspected
    norm = {"pre-norm": lambda: core.encoder.norm, "snail": lambda: core.norm}
    for feature, again, record in steps:
        np.testing.assert_array_equal(feature, again)
        last = record.layers[-1].output
        expected = norm[name]()(last) if name in norm else last
        np.testing.assert_allclose(feature, expected, rtol=1e-5, atol=1e-6)


@every(ATTEND)
def test_weights_are_shares_of_what_is_remembered(inspected):
    name, _, steps = inspected
    for t, (_, _, record) in enumerate(steps):
        held = np.minimum(np.where(np.arange(B) == 1, t - 4 * (t >= 4), t) + 1, REACH.get(name, T))
        for layer in record.layers:
            weight, age = np.asarray(layer.attention.weight), np.asarray(layer.attention.age)
            for lane in range(B):
                assert sorted(age[lane][age[lane] >= 0]) == list(range(held[lane]))
            np.testing.assert_allclose(weight.sum(axis=-1), 1.0, rtol=1e-5)
            assert (weight[np.broadcast_to((age < 0)[:, None], weight.shape)] == 0).all()
            back = np.asarray(layer.attention.by_age(T))
            for lane, head, slot in np.ndindex(*weight.shape):
                if age[lane, slot] >= 0:
                    assert back[lane, head, age[lane, slot]] == weight[lane, head, slot]


@every(ATTEND)
def test_what_was_read_is_the_weighted_mean_of_the_vectors(inspected):
    _, _, steps = inspected
    for _, _, record in steps:
        for layer in record.layers:
            how = layer.attention
            weight, vector = np.asarray(how.weight, np.float64), np.asarray(how.vector, np.float64)
            mean = np.einsum("bhs,bhsd->bd", weight, vector) / weight.shape[1]
            np.testing.assert_allclose(how.read, mean, rtol=1e-4, atol=1e-5)


@every(["window", "trial-whole", "trial-transitions"])
def test_the_stream_is_the_input_and_what_was_read(inspected):
    _, _, steps = inspected
    for _, _, record in steps:
        h = np.asarray(record.embedding)
        for layer in record.layers:
            np.testing.assert_allclose(
                layer.attention.stream, h + np.asarray(layer.attention.read), rtol=1e-5, atol=1e-6
            )
            h = np.asarray(layer.output)


@pytest.mark.parametrize("name", ["window", "trial-whole", "gtrxl", "snail"])
def test_a_step_does_not_pay_for_the_record(name, shaken_core):
    """Compiled, it leaves out what only the record needs: vectors are as large as the memory."""
    core = shaken_core(name, D, T)
    leaves, treedef = jax.tree.flatten((core.start(B), jnp.zeros((B, D)), jnp.zeros(B, bool)))

    def bytes_touched(method):
        compiled = jax.jit(lambda *x: method(*jax.tree.unflatten(treedef, x))).lower(*leaves)
        return compiled.compile().cost_analysis()["bytes accessed"]

    assert bytes_touched(core.step) < bytes_touched(core.inspect)
