"""Whether an agent acts, and remembers, as one that knew the exact posterior of its task would."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from trmrl.analyze._probe import decode
from trmrl.analyze.exact import EXACT, Choice, Posterior
from trmrl.analyze.subject import Findings, Subject, panel, replay, sites, some_steps
from trmrl.nets.network import Model
from trmrl.ops.bootstrap import bootstrap_interval, mean_interval
from trmrl.report.panels import Panel, Series
from trmrl.types import Trajectory, TrmrlError

TIE = 1e-5  # values this near to the best, relative to it, are as good
PRIOR, STEP, TOKEN = "the prior", "the step alone", "the last token"


def belief(subject: Subject) -> Findings:
    """Return how often the agent's action is the best by the exact posterior, and what it lost.

    And how far the belief that a linear probe reads from its memory is from that posterior, by
    step: in trials with sampled actions, which vary; fitted on half of the tasks, judged on the
    others. Raises `TrmrlError` in worlds without an exact posterior.
    """
    spec = subject.envs.spec
    if spec.name not in EXACT and spec.family not in EXACT:
        raise TrmrlError(
            f"no exact posterior is known for {spec.name}, only for {', '.join(EXACT)}"
        )
    posterior_of, choice_of = EXACT.get(spec.name) or EXACT[spec.family]
    tasks = subject.tasks(subject.num_tasks)
    rows = subject.roll_out(tasks).rows
    found = _acting(choice_of(spec, rows), rows)
    if not isinstance(subject.model, Model):
        found.lines.append("no belief: this agent has no memory core to read it from")
        return found
    sampled = subject.roll_out(tasks, explore=True).rows
    steps = some_steps(spec.trial_length)
    exact = posterior_of(sampled, steps)
    kept = _memories(subject.model, sampled, steps)
    divergence = readable(exact, kept)
    total = {name: float(kl.mean()) for name, kl in divergence.items()}
    prior = max(total[PRIOR], np.finfo(float).tiny)
    layers = [name for name in kept if name != TOKEN]
    best = min(layers, key=lambda name: total[name])
    found.lines.append(
        f"the belief read from {best} is {total[best]:.3f} nats from the posterior, from the last "
        f"token {total[TOKEN]:.3f}, from the step alone {total[STEP]:.3f}, and the prior is "
        f"{prior:.3f}: {1 - total[best] / prior:.0%} of what can be known is read"
    )
    curves = {name: _by_step(kl) for name, kl in divergence.items()}
    found.numbers["kl"] = {"steps": steps.tolist(), "mean": total, "by_step": curves}
    found.figures.append(_kl_panel(curves, steps))
    return found


def _acting(choice: Choice, rows: Trajectory) -> Findings:
    """Return how the agent's actions compare with the best ones of deterministic trials."""
    action = np.asarray(rows.decision.action).reshape(choice.values.shape[:2])
    agrees, lost, chance = compare(choice.values, action)
    share, low, high = _mean(agrees)
    numbers = {
        "compared_with": choice.label,
        "agreement": {"mean": share, "ci95_low": low, "ci95_high": high},
        "agreement_by_chance": float(chance.mean()),
        "agreement_by_step": agrees.mean(axis=1).tolist(),
    }
    lines = [
        f"it takes {choice.label} in {share:.1%} of steps ({low:.1%} to {high:.1%}); "
        f"any action at random would in {chance.mean():.1%}"
    ]
    if choice.best_total is not None:
        total = np.asarray(rows.outcome.reward, np.float64).reshape(action.shape).sum(axis=0)
        earned, lost_of = _mean(total[None]), _mean(lost.sum(axis=0)[None])
        numbers |= {
            "lost": dict(zip(("mean", "ci95_low", "ci95_high"), lost_of, strict=True)),
            "earned": dict(zip(("mean", "ci95_low", "ci95_high"), earned, strict=True)),
            "best_total": choice.best_total,
        }
        lines.append(
            f"its actions cost it {lost_of[0]:.3f} ({lost_of[1]:.3f} to {lost_of[2]:.3f}) of the "
            f"{choice.best_total:.3f} that the Bayes-optimal agent expects of a trial"
        )
    agreeing = np.arange(len(agrees), dtype=float), agrees.mean(axis=1)
    low_high = bootstrap_interval(agrees.T.astype(np.float64))
    series = [
        Series("the agent", "mean", 0, *agreeing, *low_high),
        Series("any action", "mean", 6, agreeing[0], chance.mean(axis=1), style="--"),
    ]
    title = f"How often it takes {choice.label}"
    figure = panel("agreement", title, "share of tasks", series, limits=(-0.02, 1.02))
    return Findings(numbers, {"agrees": agrees, "lost": lost}, [figure], lines)


def compare(
    values: Float[np.ndarray, "T B A"], action: np.ndarray
) -> tuple[np.ndarray, Float[np.ndarray, "T B"], Float[np.ndarray, "T B"]]:
    """Return whether each action is among the best, what it lost, and the share of best ones.

    The losses of a trial add up, in expectation, to how much less than the optimum it earns
    (Kakade and Langford, 2002, lemma 6.1).
    """
    best = values.max(axis=-1, keepdims=True)
    is_best = values >= best - TIE * (1.0 + np.abs(best))
    taken = action[..., None]
    agrees = np.take_along_axis(is_best, taken, axis=-1)[..., 0]
    lost = (best - np.take_along_axis(values, taken, axis=-1))[..., 0]
    return agrees, lost, is_best.mean(axis=-1)


def _memories(model: Model, rows: Trajectory, steps: np.ndarray) -> dict[str, np.ndarray]:
    """Return the last token, and every site of the memory, at some steps: `[S, B, F]` each."""
    kept = replay(model, rows, partial(sites, model.network))
    tokens, _ = model.tokens(jax.tree.map(jnp.asarray, rows.flatten_time()).timestep)
    return {name: np.asarray(x, np.float64)[steps] for name, x in ({TOKEN: tokens} | kept).items()}


def readable(exact: Posterior, kept: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return how far what is decoded from each site is from the posterior: nats, `[S, M]`.

    One decoder serves all steps. Also for the prior, and for a decoder of the step's number alone.
    """
    num_steps, num_lanes, _ = exact.numbers.shape
    half = num_lanes // 2
    flat = lambda x: x.reshape((-1, x.shape[-1]))
    target, truth = flat(exact.numbers[:, :half]), flat(exact.numbers[:, half:])

    def judge(given: np.ndarray) -> np.ndarray:
        kl = exact.kl(jnp.asarray(truth, jnp.float32), jnp.asarray(given, jnp.float32))
        return np.asarray(kl, np.float64).reshape((num_steps, -1))

    step = np.repeat(np.eye(num_steps)[:, None], num_lanes, axis=1)
    found = {PRIOR: judge(np.broadcast_to(exact.prior, truth.shape))}
    for name, x in ({STEP: step} | kept).items():
        given = decode(flat(x[:, :half]), target, flat(x[:, half:]), exact.kl, exact.prior)
        found[name] = judge(given)
    return found


def _mean(x: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of `[T, B]` and its interval over lanes."""
    by_lane = x.mean(axis=0, dtype=np.float64)
    mean = float(by_lane.mean())
    return mean, *(mean_interval(by_lane) or (mean, mean))


def _by_step(kl: np.ndarray) -> dict[str, list[float]]:
    low, high = bootstrap_interval(kl.T)
    return {"mean": kl.mean(axis=1).tolist(), "ci95_low": low.tolist(), "ci95_high": high.tolist()}


def _kl_panel(curves: dict[str, dict[str, list[float]]], steps: np.ndarray) -> Panel:
    series = []
    for i, (name, curve) in enumerate(curves.items()):
        mean, low, high = (np.asarray(curve[key]) for key in ("mean", "ci95_low", "ci95_high"))
        series.append(Series(name, "mean", i, steps * 1.0, mean, low, high))
    title = "How far the belief read from memory is from the posterior"
    return panel("belief", title, "KL (nats)", series)
