"""What a belief's own decoder expects of the cells of a room, beside what can be known of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from trmrl.agents.memory import MemoryAgent
from trmrl.analyze.exact import NAVI_GOALS, open_goals
from trmrl.analyze.subject import Findings, Subject, panel, replay, sites
from trmrl.envs.grid import MOVES, cells, cells_after
from trmrl.learners.objectives import ELBO
from trmrl.nets.network import Model
from trmrl.report.figures import Map
from trmrl.report.panels import Series
from trmrl.types import Trajectory, TrmrlError

SIZE = 5  # of GridNavi's room
NUM_SHOWN = 8  # steps of one trial in the map
FEWEST = 5  # trials that still search, below which a step has no mean
ENTERED, OTHERS = "cells entered", "cells not entered yet"


def decoded(subject: Subject) -> Findings:
    """Return how unsure the belief is of what each cell pays, by step, until the goal is found.

    Entropy of "entering this cell pays" at the belief's mean, apart for goals that the trial has
    entered and for those it has not, beside that of the exact posterior; and a map of one trial's
    probabilities (Zintgraf et al., 2020, figure 3). Cells are entered as the agent enters them
    while it searches: staying, say, it does where it is paid, and the decoder has learned that.
    Raises `TrmrlError` outside GridNavi, and for agents whose belief decodes no rewards as signs.
    """
    if subject.envs.spec.name != "grid-navi":
        raise TrmrlError(f"only rooms of grid-navi are decoded, not {subject.envs.spec.name}")
    model = subject.network
    if not (isinstance(subject.agent, MemoryAgent) and _decodes_signs(subject.agent)):
        raise TrmrlError("this agent has no belief that decodes the signs of rewards")
    rows = subject.roll_out(subject.tasks(subject.num_tasks)).rows
    kept = replay(model, rows, partial(sites, model.network))["belief"]
    mean = kept[..., : kept.shape[-1] // 2]
    possible, entered = open_goals(rows)
    searching = possible.sum(axis=-1, keepdims=True) > 1
    pays = cell_probabilities(model, mean, ways_in(rows, searching[..., 0]))
    goals = pays[..., NAVI_GOALS @ np.array([SIZE, 1])]
    exact = possible / possible.sum(axis=-1, keepdims=True)
    numbers, series = {}, []
    for color, (name, chosen) in enumerate({ENTERED: entered, OTHERS: ~entered}.items()):
        compared = {name: (goals, "-"), f"{name}, exact posterior": (exact, "--")}
        for label, (probability, style) in compared.items():
            steps, curve = _by_step(_entropy(probability), chosen & searching)
            numbers[label] = {"steps": steps.tolist(), "mean": curve.tolist()}
            series.append(Series(label, "mean", color, steps * 1.0, curve, style=style))
    title = "How unsure the belief is of what a cell pays, until the goal is found"
    at = {label: curve["mean"][-1] for label, curve in numbers.items()}
    lines = [
        f"at step {numbers[OTHERS]['steps'][-1]}, before the goal is found, the entropy of what a "
        f"cell pays is {at[ENTERED]:.3f} nats where it has been, {at[OTHERS]:.3f} elsewhere "
        f"(exactly {at[f'{OTHERS}, exact posterior']:.3f})"
    ]
    figures = [panel("decoded", title, "entropy (nats)", series), _map(pays[:, 0])]
    return Findings(numbers, {"probability": pays, "goals": NAVI_GOALS}, figures, lines)


def ways_in(rows: Trajectory, searching: Bool[np.ndarray, "T B"]) -> Float[np.ndarray, "N C"]:
    """Return how often each of `N` steps (from a cell, by an action) is the one into each cell.

    Of the steps into it that trials take while they search; where there are none, all from beside
    it alike. Columns add up to one.
    """
    flat = rows.flatten_time()
    cell = np.rint(flat.timestep.obs).astype(int) @ [SIZE, 1]
    step = cell * len(MOVES) + np.asarray(flat.decision.action).reshape(cell.shape)
    count = np.bincount(step[searching], minlength=SIZE**2 * len(MOVES))
    after = cells_after(SIZE) @ [SIZE, 1]  # [C, A]
    into = after.reshape((-1, 1)) == np.arange(SIZE**2)
    moves = (after != np.arange(SIZE**2)[:, None]).reshape(-1)
    taken = into * count[:, None]
    taken = np.where(taken.sum(axis=0) > 0, taken, into * moves[:, None])
    return taken / taken.sum(axis=0)


def cell_probabilities(
    model: Model, mean: Float[np.ndarray, "T B L"], ways: Float[np.ndarray, "N C"]
) -> Float[np.ndarray, "T B C"]:
    """Return how likely the decoder holds a reward for entering each cell, `C` as in `cells`.

    `ways` says how the steps into it count (`ways_in`).
    """
    action = jnp.asarray(np.tile(np.arange(len(MOVES)), SIZE**2))
    lanes = lambda x: jnp.broadcast_to(x[:, None], (len(x), mean.shape[1], *x.shape[1:]))
    shown = lambda x: lanes(model.shown(jnp.asarray(x.reshape((-1, 2)), jnp.float32)))
    obs, next_obs = shown(np.repeat(cells(SIZE), len(MOVES), axis=0)), shown(cells_after(SIZE))
    decoder = model.network.heads[ELBO.__name__]
    logit = jax.lax.map(
        lambda at: decoder(at[None], obs, lanes(action), next_obs)[0, ..., 0], jnp.asarray(mean)
    )
    probability = np.asarray(jax.nn.sigmoid(logit), np.float64)  # [T, N, B]
    return np.einsum("tnb,nc->tbc", probability, ways)


def _decodes_signs(agent: MemoryAgent) -> bool:
    bounds = [one for one in agent.algorithm.listed() if isinstance(one, ELBO)]
    return any(one.reward_kind == "bernoulli" for one in bounds)


def _entropy(probability: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return the entropy of a coin, nats."""
    p = np.clip(probability, 1e-12, 1 - 1e-12)
    return -p * np.log(p) - (1 - p) * np.log1p(-p)


def _by_step(
    values: Float[np.ndarray, "T B G"], chosen: Bool[np.ndarray, "T B G"]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps at which enough trials have a chosen cell, and the mean over those."""
    steps = np.flatnonzero(chosen.any(axis=-1).sum(axis=-1) >= FEWEST)
    return steps, np.asarray([values[step][chosen[step]].mean() for step in steps])


def _map(pays: Float[np.ndarray, "T C"]) -> Map:
    """Return the rooms of one trial at some steps of its first episodes, side by side."""
    steps = np.linspace(0, len(pays) // 2, NUM_SHOWN).round().astype(int)
    rooms = np.full((SIZE, NUM_SHOWN, SIZE + 1), np.nan)
    rooms[..., :SIZE] = pays[steps].reshape((NUM_SHOWN, SIZE, SIZE)).transpose(2, 0, 1)
    title = "What cells pay under one trial's belief, before steps " + ", ".join(map(str, steps))
    wide = rooms.reshape((SIZE, -1))[:, :-1]
    return Map("decoded-rooms", title, "x, room by room", "y", wide, "probability of a reward")
