"""Principal components against NumPy's eigenvectors, and a probe that must find the task."""

import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.analyze.latents import MemoryMap, latents, map_memories, pca, umap
from trmrl.types import TrmrlError


def test_pca_is_the_eigenvectors_of_the_covariance():
    noise = np.random.default_rng(0)
    rows = noise.normal(size=(40, 5)) @ noise.normal(size=(5, 5)) + 3.0
    scores, share = pca(rows, 3)
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    expected = (rows - rows.mean(axis=0)) @ vectors[:, ::-1][:, :3]
    np.testing.assert_allclose(np.abs(scores), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(share, values[::-1][:3] / values.sum())
    assert (scores[np.abs(scores).argmax(axis=0), range(3)] > 0).all()


class Planar:
    """What `umap-learn` is asked for: as many neighbors as there are, a seed, one thread for it."""

    def __init__(self, n_neighbors, *, random_state, n_jobs):
        assert (random_state, n_jobs) == (0, 1)
        self.n_neighbors = n_neighbors

    def fit_transform(self, rows):
        return rows[:, :2] * self.n_neighbors


def test_umap_where_it_is_installed(monkeypatch):
    rows = np.arange(60.0).reshape(20, 3)
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Planar))
    np.testing.assert_array_equal(umap(rows), rows[:, :2] * 15)
    np.testing.assert_array_equal(umap(rows[:4]), rows[:4, :2] * 3)
    monkeypatch.setitem(sys.modules, "umap", None)
    assert umap(rows) is None


@pytest.mark.parametrize("core", ["window", "gru"])
def test_what_can_be_read_of_the_task(subject_of, worlds, core):
    """The start of an episode is among the task's numbers, and observed at once."""
    found = latents(subject_of(core, worlds(), 60))
    probes = found.numbers["r_squared"]
    assert found.numbers["steps"][0] == 0 and found.numbers["num_tasks"] == 60
    layers = ["layer 1"] if core == "gru" else ["layer 1", "layer 2"]
    assert list(probes) == ["embedding", *layers]
    last = probes[layers[-1]]
    assert last["ci95_low"][-1] <= last["mean"][-1] <= last["ci95_high"][-1] <= 1.0
    assert last["mean"][0] > 0.3 and probes["embedding"]["mean"][0] > 0.3
    assert found.arrays["memory/layer 1"].shape == (len(found.numbers["steps"]), 60, 8)
    names = [figure.name for figure in found.figures]
    assert names[:3] == ["probes", "pca-embedding", "pca-layer 1"]
    assert len(found.figures[1].x) == 60


def test_too_few_tasks_are_one_line(subject_of, worlds):
    with pytest.raises(TrmrlError, match="4 distinct tasks, expected 10 or more"):
        latents(subject_of("gru", worlds(), 4))


def test_a_memory_is_nearest_to_that_of_its_own_task():
    """In the plane (x, z) the first two rows are one point: y alone tells them apart."""
    memory = np.array([[1.0, 0.0, 2.0], [1.0, 0.4, 2.0], [-3.0, 0.2, 0.0], [1.0, 0.2, -4.0]])
    axes = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    found = MemoryMap({"number": np.arange(4)}, memory, axes)
    np.testing.assert_allclose(found.place(np.array([2.0, 9.0, 1.0])), [2.0, 1.0])  # mean: (0, 0)
    assert found.nearest(np.array([1.0, 0.3, 2.0]), 3).tolist() == [1, 0, 2]
    assert found.nearest(np.array([1.0, 0.1, -1.5]), 2).tolist() == [3, 0]


def test_a_map_holds_the_mean_feature_of_the_last_episode(subject_of, worlds):
    """Of the rows that happened, as the core computes them over many steps at once."""
    subject = subject_of("gru", worlds(), 7)
    found = map_memories(subject)
    rows = jax.tree.map(jnp.asarray, subject.roll_out(found.tasks).rows.flatten_time())
    network = subject.network.network
    tokens, start = subject.network.tokens(rows.timestep)
    feature = np.asarray(network.core.unroll(None, tokens, start, rows.valid)[1], np.float64)
    assert not rows.valid[6:].all() and rows.valid[6:].any(axis=0).all()
    for lane in range(7):
        happened = feature[6:, lane][rows.valid[6:, lane]]
        np.testing.assert_allclose(found.memory[lane], happened.mean(axis=0), atol=1e-5)
    variance = np.linalg.eigvalsh(np.cov(found.memory.T))[::-1]
    plane = found.place(found.memory)
    np.testing.assert_allclose(plane.var(axis=0, ddof=1), variance[:2], rtol=1e-6)


def test_a_map_needs_two_tasks_and_a_memory_core(subject_of, worlds):
    subject = subject_of("gru", worlds(), 1)
    with pytest.raises(TrmrlError, match="0 distinct tasks, expected 2 or more"):
        map_memories(subject)
    with pytest.raises(TrmrlError, match="a MemoryAgent has no memory core"):
        map_memories(type(subject)(subject.agent, None, subject.envs, 4))
