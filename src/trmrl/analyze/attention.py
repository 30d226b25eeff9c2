"""What an agent attends to among the past steps of a trial, and which of them matter."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trmrl.analyze.subject import Findings, Subject, panel, replay
from trmrl.nets.core import Record
from trmrl.nets.network import Model
from trmrl.ops.bootstrap import bootstrap_interval
from trmrl.report.figures import Figure, Map
from trmrl.report.panels import Panel, Series
from trmrl.types import Trajectory

NUM_TASKS = 16  # whole trials are attended to, so few of them
MOST_AGES = 40  # steps back that are looked at


def attention(subject: Subject) -> Findings:
    """Return attention by layer, head and age along a trial, and each past token's influence.

    Means over up to `NUM_TASKS` tasks, one deterministic trial on each.
    """
    model = subject.network
    trial = subject.roll_out(subject.tasks(min(subject.num_tasks, NUM_TASKS)))
    num_steps = subject.envs.spec.trial_length
    found = influence(model, trial.rows)
    figures: list[Figure] = [_influence_panel(found)]
    numbers: dict = {"influence": {str(t): x.mean(axis=1).tolist() for t, x in found.items()}}
    arrays = {f"influence/{t}": x for t, x in found.items()}
    lines = [_which_matter(found)]
    kept = replay(model, trial.rows, lambda record, _: by_age(record, num_steps))
    if not kept:
        name = type(model.network.core).__name__
        lines.append(f"a {name} attends to nothing: there are no attention weights")
    valid = trial.rows.valid.reshape((num_steps, -1))
    far: list[Series] = []
    spread: list[Series] = []
    for name, weight in kept.items():
        arrays[f"weight/{name}"] = weight
        numbers[name] = summary = summarize(weight, valid)
        for series, what in ((far, "look_back"), (spread, "entropy")):
            for head, row in enumerate(np.asarray(summary[what]).T):
                label = f"{name}, head {head + 1}"
                series.append(Series(label, "mean", len(series), np.arange(num_steps) * 1.0, row))
        back = max(summary["look_back"][-1])
        lines.append(f"{name}: its heads look back {back:.1f} tokens at most at the last step")
        figures.append(_map(name, weight, valid))
    axes = (("look-back", "How far back attention looks", "mean age (tokens)", far),
            ("entropy", "How spread attention is", "entropy (nats)", spread))  # fmt: skip
    for name, title, label, series in axes if kept else ():
        figures.append(panel(name, title, label, series))
    return Findings(numbers, arrays, figures, lines)


def by_age(record: Record, num_tokens: int) -> dict[str, Float[Array, "B H N"]]:
    """Return each attending layer's weights of one acting step, by how many tokens ago.

    Age 0 is the newest token. No entry for layers that do not attend.
    """
    return {
        f"layer {i}": layer.attention.by_age(num_tokens)
        for i, layer in enumerate(record.layers, start=1)
        if layer.attention is not None
    }


def summarize(weight: Float[np.ndarray, "T B H N"], valid: np.ndarray) -> dict[str, list]:
    """Return mean entropy (nats) and mean age `[T][H]` of weights, over rows that happened."""
    entropy = -np.sum(weight * np.log(np.maximum(weight, 1e-30)), axis=-1)
    age = weight @ np.arange(weight.shape[-1], dtype=np.float64)
    count = np.maximum(valid.sum(axis=1), 1)[:, None]
    mean = lambda x: (np.where(valid[..., None], x, 0.0).sum(axis=1) / count).tolist()
    return {"entropy": mean(entropy), "look_back": mean(age)}


def influence(model: Model, rows: Trajectory) -> dict[int, Float[np.ndarray, "N B"]]:
    """Return how much each past token moves the policy, by the acting step: nats, by age.

    The divergence KL(policy || policy') where policy' follows from the same trial with one token
    replaced by the mean token of all lanes at that step. Of the steps at a quarter, half and the
    end of the trial, and the `MOST_AGES` newest tokens.
    """
    flat = jax.tree.map(jnp.asarray, rows.flatten_time())
    tokens, start = model.tokens(flat.timestep)
    network, last = model.network, len(tokens) - 1

    @jax.jit
    def without(network, tokens, start, valid, step, at):
        share = valid[:, :, None].astype(tokens.dtype)
        mean = (tokens * share).sum(axis=1) / jnp.maximum(share.sum(axis=1), 1.0)
        policy = network.read(None, tokens, start, valid).policy
        one = jax.tree.map(lambda x: x[at], policy)

        def replaced(step):
            other = tokens.at[step].set(jnp.broadcast_to(mean[step][None], tokens.shape[1:]))
            after = network.read(None, other, start, valid).policy
            return one.kl(jax.tree.map(lambda x: x[at], after))

        return jax.lax.map(replaced, step)

    found = {}
    for at in sorted({last // 4, last // 2, last}):
        steps = jnp.arange(at, max(at - MOST_AGES, -1), -1)
        kl = without(network, tokens, start, flat.valid, steps, at)
        found[at] = np.asarray(kl, np.float64)
    return found


def _which_matter(found: dict[int, np.ndarray]) -> str:
    at, kl = max(found.items())
    mean = kl.mean(axis=1)
    share = mean.cumsum() / max(mean.sum(), np.finfo(float).tiny)
    num = int(np.searchsorted(share, 0.95)) + 1
    return f"at step {at} the newest {num} of {len(mean)} tokens have 95 % of the influence"


def _num_ages(values: Float[np.ndarray, "*axes N"]) -> int:
    """Return how many ages to draw: one beyond the last with a millionth of the greatest value."""
    flat = values.reshape((-1, values.shape[-1])).max(axis=0)
    used = np.flatnonzero(flat > 1e-6 * flat.max())
    return min(int(used.max(initial=0)) + 2, values.shape[-1])


def _influence_panel(found: dict[int, np.ndarray]) -> Panel:
    series = []
    num_ages = max(_num_ages(kl.T) for kl in found.values())
    for i, (at, every) in enumerate(found.items()):
        kl = every[:num_ages]
        low, high = bootstrap_interval(kl.T)
        age = np.arange(len(kl), dtype=float)
        series.append(Series(f"acting at step {at}", "mean", i, age, kl.mean(axis=1), low, high))
    title, label = "Which past tokens matter", "change of the policy (nats)"
    return panel("influence", title, label, series, over="tokens ago")


def _map(name: str, weight: np.ndarray, valid: np.ndarray) -> Map:
    """Return the weights by step and age, the mean over heads and over lanes still running."""
    newest = weight[..., :MOST_AGES]
    shown = newest[..., : _num_ages(newest)].mean(axis=2)
    count = np.maximum(valid.sum(axis=1), 1)[:, None]
    mean = np.where(valid[..., None], shown, 0.0).sum(axis=1) / count
    ages = np.arange(mean.shape[1])[None] > np.arange(len(mean))[:, None]
    return Map(
        f"attention-{name}", f"What {name} attends to", "steps since the trial began",
        "tokens ago", np.where(ages, np.nan, mean).T, "mean weight",
    )  # fmt: skip
