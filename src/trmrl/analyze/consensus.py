"""How near a layer's output is to the closest one to all it attends to (Melo, 2022, theorem 4.1).

The paper: self-attention gives the representation of least Bayes risk, the expected distance to the
value vectors under its own attention weights. Two identities are behind it. For weights `a` that
sum to 1, `argmin_e sum_s a_s |e - v_s|^2 = sum_s a_s v_s`; and for unit vectors,
`argmin_e sum_s a_s (1 - cos(e, v_s))` is any positive multiple of `sum_s a_s v_s`. The values of
trained agents are not of unit length, and after the output projection come a skip connection and a
feed-forward map: how much of the minimum is left then is measured here.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from trmrl.analyze.subject import Findings, Subject, panel, replay
from trmrl.nets.core import Attention, Record
from trmrl.report.panels import Panel, Series
from trmrl.types import Array, TrmrlError

NUM_TASKS = 32
KINDS = "squared", "cosine"


def squared_risk(
    weight: Float[Array, "*axes S"], vector: Float[Array, "*axes S D"], e: Float[Array, "*axes D"]
) -> Float[Array, "*axes"]:
    """Return the expected squared distance of `e` to the vectors, `sum_s a_s |e - v_s|^2`."""
    away = vector - e[..., None, :]
    return jnp.sum(weight * jnp.sum(away * away, axis=-1), axis=-1)


def cosine_risk(
    weight: Float[Array, "*axes S"], vector: Float[Array, "*axes S D"], e: Float[Array, "*axes D"]
) -> Float[Array, "*axes"]:
    """Return the expected cosine distance of `e` to the vectors, `sum_s a_s (1 - cos(e, v_s))`."""
    cosine = jnp.einsum("...sd,...d->...s", _unit(vector), _unit(e))
    return jnp.sum(weight * (1.0 - cosine), axis=-1)


def consensus(
    weight: Float[Array, "*axes S"], vector: Float[Array, "*axes S D"], kind: str
) -> Float[Array, "*axes D"]:
    """Return the representation of least expected distance: the weighted mean of the vectors.

    For the cosine, of the vectors at unit length; its own length does not matter.
    """
    vector = _unit(vector) if kind == "cosine" else vector
    return jnp.einsum("...s,...sd->...d", weight, vector)


def _unit(x: Array) -> Array:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def _risk_of_each(
    vector: Float[Array, "B S D"], least: Float[Array, "B D"], minimum: Array, kind: str
) -> Float[Array, "B S"]:
    """Return the risk of each vector: without pairs of them, since both risks are linear in pairs.

    `sum_s a_s |v - v_s|^2 = |v - m|^2 + sum_s a_s |m - v_s|^2`, and the mean of cosines is the
    product with the mean of unit vectors.
    """
    if kind == "squared":
        return jnp.sum((vector - least[:, None]) ** 2, axis=-1) + minimum[:, None]
    return 1.0 - jnp.einsum("bsd,bd->bs", _unit(vector), least)


RISKS = dict(zip(KINDS, (squared_risk, cosine_risk), strict=True))


def risks(attention: Attention, output: Float[Array, "B F"]) -> dict[str, Float[Array, " B"]]:
    """Return the risks of one layer's stages for one step, `KIND/STAGE`, and of a yardstick.

    The vectors are those of all heads, `H` times each head's share of the output projection: what
    attention returns is their mean under `weight / H`, with all heads as one distribution. Stages:
    `minimum` (the consensus), `attention` (what it returned), `skip` (after the skip connection)
    and `output` (after the feed-forward map). The yardstick `best` is the least risk of any of
    the vectors themselves, which is what minimum Bayes risk decoding chooses. Stages of another
    size than the vectors are left out.
    """
    heads, slots = attention.weight.shape[1:]
    flat = lambda x: x.reshape((x.shape[0], heads * slots, *x.shape[3:]))
    spread = jnp.broadcast_to(attention.weight[..., None], attention.vector.shape)[..., 0]
    weight = flat(spread) / heads
    vector = flat(attention.vector)
    found = {}
    for kind, risk in RISKS.items():
        least = consensus(weight, vector, kind)
        stages = {
            "minimum": least,
            "attention": attention.read,
            "skip": attention.stream,
            "output": output,
        }
        for name, e in stages.items():
            if e is not None and e.shape[-1] == vector.shape[-1]:
                found[f"{kind}/{name}"] = risk(weight, vector, e)
        one = _risk_of_each(vector, least, found[f"{kind}/minimum"], kind)
        found[f"{kind}/best"] = jnp.where(weight > 0, one, jnp.inf).min(axis=1)
    return found


def bayes_risk(subject: Subject) -> Findings:
    """Return how far each stage of each layer is from the consensus of what it attends to.

    As multiples of the least risk, over the steps of deterministic trials at which two tokens or
    more are remembered: a ratio of sums over steps, so that steps without a spread count little.
    """
    model = subject.network
    trial = subject.roll_out(subject.tasks(min(subject.num_tasks, NUM_TASKS)))

    def keep(record: Record, feature: Array) -> dict:
        return {
            f"layer {i}": risks(layer.attention, layer.output)
            for i, layer in enumerate(record.layers, start=1)
            if layer.attention is not None
        }

    kept = replay(model, trial.rows, keep)
    if not kept:
        name = type(model.network.core).__name__
        raise TrmrlError(f"a {name} attends to nothing: the theorem says nothing of it")
    counted = trial.rows.valid.reshape((subject.envs.spec.trial_length, -1)).copy()
    counted[0] = False  # a token alone is its own consensus
    numbers = {name: ratios(found, counted) for name, found in kept.items()}
    lines = [
        f"{name}: the {kind} distance of its output to what it attends to is "
        f"{numbers[name][kind]['output']:.3g} times the least possible; "
        f"what attention itself returned {numbers[name][kind]['attention']:.3g}, "
        f"the best single one {numbers[name][kind]['best']:.3g}"
        for name in numbers
        for kind in KINDS
        if "output" in numbers[name][kind]
    ]
    arrays = {f"{name}/{k}": x for name, found in kept.items() for k, x in found.items()}
    figures = [_panel(kept, counted, kind) for kind in KINDS]
    return Findings(numbers, arrays, [*figures], lines)


def ratios(found: dict[str, np.ndarray], counted: np.ndarray) -> dict[str, dict[str, float]]:
    """Return each stage's risk as a multiple of the minimum, and the minimum itself, by kind."""
    sums = {name: float(x[counted].sum(dtype=np.float64)) for name, x in found.items()}
    result: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        least = max(sums[f"{kind}/minimum"], np.finfo(float).tiny)
        stages = {k.partition("/")[2]: s / least for k, s in sums.items() if k.startswith(kind)}
        result[kind] = stages | {"minimum": least / max(int(counted.sum()), 1)}
    return result


def _panel(kept: dict, counted: np.ndarray, kind: str) -> Panel:
    """Return the risk of each layer's output and of its attention by step, over the minimum."""
    series, steps = [], np.flatnonzero(counted.any(axis=1))
    mean = lambda x: np.where(counted, x, 0.0).sum(axis=1)[steps]
    for i, (name, found) in enumerate(kept.items()):
        least = np.maximum(mean(found[f"{kind}/minimum"]), np.finfo(float).tiny)
        for stage, style in (("attention", "-"), ("output", "--"), ("best", ":")):
            if f"{kind}/{stage}" in found:
                y = mean(found[f"{kind}/{stage}"]) / least
                series.append(Series(f"{name}, {stage}", "mean", i, steps * 1.0, y, style=style))
    title = f"Expected {kind} distance to what is attended to, over the least possible"
    return panel(f"risk-{kind}", title, "multiple of the minimum", series)
