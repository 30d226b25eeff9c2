"""The theorem's identities, and risks against loops."""

import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.analyze.consensus import (
    KINDS,
    RISKS,
    bayes_risk,
    consensus,
    cosine_risk,
    ratios,
    risks,
    squared_risk,
)
from trmrl.nets.core import Attention
from trmrl.types import TrmrlError

NOISE = np.random.default_rng(0)
WEIGHT = NOISE.dirichlet(np.ones(6), size=4).astype(np.float32)  # 4 lanes, 6 slots
VECTOR = NOISE.normal(size=(4, 6, 3)).astype(np.float32)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_risks_by_hand():
    weight, vector = np.float32([[0.25, 0.75]]), np.float32([[[2.0, 0.0], [0.0, 1.0]]])
    e = np.float32([[0.0, 3.0]])
    np.testing.assert_allclose(squared_risk(weight, vector, e), [0.25 * 13 + 0.75 * 4])
    np.testing.assert_allclose(cosine_risk(weight, vector, e), [0.25 * 1 + 0.75 * 0])


@pytest.mark.parametrize("kind", KINDS)
def test_no_other_representation_has_less_risk(kind):
    """Thousands of others, near and far, and each of the vectors."""
    least = np.asarray(consensus(WEIGHT, VECTOR, kind))
    floor = np.asarray(RISKS[kind](WEIGHT, VECTOR, least))
    many = lambda x: np.broadcast_to(x, (500, *x.shape))
    for size in (1e-2, 1.0, 10.0):
        other = least + size * NOISE.normal(size=(500, *least.shape)).astype(np.float32)
        assert (np.asarray(RISKS[kind](many(WEIGHT), many(VECTOR), other)) >= floor - 1e-5).all()
    for slot in range(6):
        assert (np.asarray(RISKS[kind](WEIGHT, VECTOR, VECTOR[:, slot])) > floor).all()


def test_of_unit_vectors_the_weighted_mean_is_it_at_any_length():
    """The paper's case: normalized memories; attention's own answer has the least cosine risk."""
    vector = unit(VECTOR)
    mean = np.einsum("bs,bsd->bd", WEIGHT, vector)
    least = 1.0 - np.linalg.norm(mean, axis=1)
    for length in (0.1, 1.0, 7.0):
        np.testing.assert_allclose(cosine_risk(WEIGHT, vector, length * mean), least, atol=1e-6)
    away = np.asarray(cosine_risk(WEIGHT, VECTOR, np.einsum("bs,bsd->bd", WEIGHT, VECTOR)))
    floor = np.asarray(cosine_risk(WEIGHT, VECTOR, consensus(WEIGHT, VECTOR, "cosine")))
    assert (away > floor + 1e-4).any()  # of vectors of unlike length it is not


def test_the_risks_of_a_layer_by_loops():
    """Two heads, three slots, the last of which nobody attends to."""
    weight = NOISE.dirichlet(np.ones(3), size=(2, 2)).astype(np.float32)
    weight[..., 2] = 0.0
    weight /= weight.sum(axis=-1, keepdims=True)
    vector = NOISE.normal(size=(2, 2, 3, 4)).astype(np.float32)
    read = np.einsum("bhs,bhsd->bd", weight, vector) / 2
    stream, output = NOISE.normal(size=(2, 2, 4)).astype(np.float32)
    age = np.zeros((2, 3), np.int32)
    arrays = [np.asarray(x) for x in (weight, age, vector, read, stream)]
    found = risks(Attention(*map(jnp.asarray, arrays)), jnp.asarray(output))

    def expected(e, kind):
        total = np.zeros(2)
        for b, h, s in np.ndindex(2, 2, 3):
            v = vector[b, h, s]
            away = ((v - e[b]) ** 2).sum() if kind == "squared" else 1 - unit(v) @ unit(e[b])
            total[b] += weight[b, h, s] / 2 * away
        return total

    for kind in KINDS:
        for stage, e in (("attention", read), ("skip", stream), ("output", output)):
            np.testing.assert_allclose(found[f"{kind}/{stage}"], expected(e, kind), rtol=1e-4)
        each = [expected(vector[:, h, s], kind) for h in range(2) for s in range(2)]
        np.testing.assert_allclose(found[f"{kind}/best"], np.min(each, axis=0), rtol=1e-4)
    np.testing.assert_allclose(found["squared/minimum"], found["squared/attention"], rtol=1e-4)
    assert (np.asarray(found["cosine/minimum"]) <= np.asarray(found["cosine/attention"])).all()


def test_ratios_are_of_sums_over_counted_steps():
    found = {f"{kind}/{name}": np.array([[x, 9.0]]) for kind in KINDS
             for name, x in (("minimum", 2.0), ("output", 3.0))}  # fmt: skip
    result = ratios(found, np.array([[True, False]]))
    assert result["squared"] == {"minimum": 2.0, "output": 1.5}


def test_attention_itself_is_the_squared_minimum_and_the_layer_is_not(subject_of, worlds):
    found = bayes_risk(subject_of("trial-whole", worlds()))
    for layer in ("layer 1", "layer 2"):
        assert found.numbers[layer]["squared"]["attention"] == pytest.approx(1.0, abs=1e-4)
        assert found.numbers[layer]["cosine"]["attention"] >= 1.0
        assert found.numbers[layer]["squared"]["output"] > 1.1
    assert {figure.name for figure in found.figures} == {"risk-squared", "risk-cosine"}


def test_snail_appends_what_it_reads_and_a_gru_attends_to_nothing(subject_of, worlds):
    found = bayes_risk(subject_of("snail", worlds()))
    assert set(found.numbers["layer 1"]["squared"]) == {"minimum", "attention", "best"}
    with pytest.raises(TrmrlError, match="a GRU attends to nothing"):
        bayes_risk(subject_of("gru", worlds()))
