"""Whether worlds keep the rules of this library, and how early what they hide can be known.

Pure functions that return findings; `trmrl check` prints them. Play is random throughout.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from trmrl.envs.base import AbstractEnvs, keys_for
from trmrl.ops.bootstrap import mean_interval
from trmrl.ops.probe import accuracy, predictions, r_squared
from trmrl.types import Array, Continuous, EnvSpec, LaneKeys, Outcome, Task, TrmrlError

NUM_TASKS = 512  # of each split, compared by value; and as many first steps
NUM_LANES = 32
FEW_STEPS = 8  # over which rounding cannot grow: chaos makes two batches of one world differ
LEAK = 0.05  # of the variance: a lower end of an interval above it is no chance
NEARLY_ALL = 0.8
MAX_KINDS = 32

Play = Callable[[Task, LaneKeys, Array], tuple[Any, Outcome]]


@dataclass(frozen=True)
class Finding:
    """One line on a world; an error breaks a rule, the rest is worth knowing."""

    is_error: bool
    text: str


@dataclass(frozen=True)
class Rollout:
    """An episode of random play in every lane: rows `[H, B]`, `valid` until its end."""

    first: np.ndarray  # [B, D]
    action: np.ndarray
    outcome: Outcome
    valid: np.ndarray

    @property
    def obs(self) -> np.ndarray:
        """What was observed before each step, `[H, B, D]`."""
        return np.concatenate([self.first[None], self.outcome.next_obs[:-1]])

    @property
    def ended(self) -> np.ndarray:
        """Where an episode ended, `[H, B]`."""
        return self.valid & (self.outcome.terminated | self.outcome.truncated)


def check(envs: AbstractEnvs, *, seed: int = 0) -> Iterator[Finding]:
    """Yield what there is to say of worlds, in the order it is found out.

    Where shapes are wrong, nothing is rolled out and it ends there.
    """
    key = jax.random.key(seed)
    yield from check_splits(envs, key)
    tasks = envs.sample_tasks("train", NUM_LANES, key=key)
    wrong = list(check_shapes(envs, tasks))
    yield from wrong
    if wrong:
        return
    play = player(envs)
    actions = random_actions(envs.spec, envs.spec.horizon, NUM_LANES, seed)
    keys = keys_for(tasks, key)
    episode = roll_out(play, tasks, keys, actions)
    began = time.perf_counter()
    again = roll_out(play, tasks, keys, actions)
    seconds = time.perf_counter() - began
    yield from check_repeats(episode, again)
    yield from check_lanes(episode, play, tasks, keys)
    yield from check_numbers(episode)
    yield from check_ends(envs.spec, episode)
    yield from check_autoreset(episode)
    yield from check_visible(envs, seed)
    yield from describe_play(envs.spec, episode)
    rate = actions.shape[0] * actions.shape[1] / seconds
    yield Finding(False, f"speed: {rate:,.0f} env steps/s at {NUM_LANES} lanes")


def check_splits(envs: AbstractEnvs, key: jax.Array) -> Iterator[Finding]:
    """Find tasks of more than one split, of one alone, of another size, or that ignore the key."""
    spec = envs.spec
    drawn: dict[str, set[bytes]] = {}
    for number, split in enumerate(spec.splits):
        keys = [jax.random.fold_in(key, number + one) for one in (0, 0, len(spec.splits))]
        draws = [envs.sample_tasks(split, NUM_TASKS, key=one) for one in keys]
        wrong = {len(leaf) for leaf in jax.tree.leaves(draws[0])} - {NUM_TASKS}
        if wrong:
            yield Finding(True, f"tasks: {split} gave {wrong.pop()} of {NUM_TASKS} asked for")
            continue
        rows, same, other = (_task_numbers(tasks) for tasks in draws)
        drawn[split] = {row.tobytes() for row in rows}
        if spec.task_size not in (0, rows.shape[1]):
            text = f"{split} has {rows.shape[1]} numbers, task_size is {spec.task_size}"
            yield Finding(True, f"tasks: {text}")
        if not np.isfinite(rows).all():
            yield Finding(True, f"tasks: {split} has numbers that are not finite")
        if not np.array_equal(rows, same, equal_nan=True):
            yield Finding(True, f"tasks: {split} is not the same under the same key")
        elif len(drawn[split]) == 1:
            yield Finding(True, f"tasks: {split} has one task, so nothing is hidden")
        elif np.array_equal(rows, other):
            yield Finding(True, f"tasks: {split} is the same under every key")
    for split in spec.splits[1:]:
        shared = drawn.get("train", set()) & drawn.get(split, set())
        if shared:
            text = f"{len(shared)} of {len(drawn[split])} tasks of {split} are tasks of train"
            by_design = ", by design" if spec.shared_splits else ""
            yield Finding(not spec.shared_splits, f"tasks: {text}{by_design}")
    absent = "a split that is not there"
    try:
        envs.sample_tasks(absent, 2, key=key)
        yield Finding(True, "tasks: an unknown split is not refused by a TrmrlError")
    except TrmrlError:
        pass
    except Exception as error:
        yield Finding(
            True, f"tasks: an unknown split raises {type(error).__name__}, not TrmrlError"
        )


def check_shapes(envs: AbstractEnvs, tasks: Task) -> Iterator[Finding]:
    """Find shapes and types of a first observation and a first outcome that the spec denies."""
    spec = envs.spec
    actions = random_actions(spec, 1, NUM_LANES, 0)
    env_state, first = envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))
    first = np.array(first)
    _, outcome = envs.step(env_state, actions[0])
    wanted = {
        "first observation": (first, (NUM_LANES, spec.obs_size), "float32"),
        "next_obs": (outcome.next_obs, (NUM_LANES, spec.obs_size), "float32"),
        "reward": (outcome.reward, (NUM_LANES,), "float32"),
        "terminated": (outcome.terminated, (NUM_LANES,), "bool"),
        "truncated": (outcome.truncated, (NUM_LANES,), "bool"),
    }
    if outcome.dense_reward is not None:
        wanted["dense_reward"] = outcome.dense_reward, (NUM_LANES,), "float32"
    if outcome.success is not None:
        wanted["success"] = outcome.success, (NUM_LANES,), "bool"
    for name, (array, shape, kind) in wanted.items():
        if np.shape(array) != shape or str(np.asarray(array).dtype) != kind:
            found = f"{np.asarray(array).dtype} {np.shape(array)}"
            yield Finding(True, f"shapes: {name} is {found}, expected {kind} {shape}")
    if spec.has_success != (outcome.success is not None):
        yield Finding(True, f"shapes: success is {outcome.success}, has_success {spec.has_success}")


def player(envs: AbstractEnvs) -> Play:
    """Return what plays given actions `[H, B, ...]` in an episode of each task."""

    def play(tasks: Task, keys: LaneKeys, actions: Array) -> tuple[Any, Outcome]:
        env_state, first = envs.reset(tasks, key=keys)
        first = first.copy()  # a host world may write it again
        _, outcome = envs.driver.scan(envs.step, env_state, actions)
        return first, outcome

    return envs.driver.jit(play)


def roll_out(play: Play, tasks: Task, keys: LaneKeys, actions: np.ndarray) -> Rollout:
    """Return the episode that actions make."""
    first, outcome = jax.tree.map(np.asarray, play(tasks, keys, actions))
    ended = np.cumsum(outcome.terminated | outcome.truncated, axis=0)
    valid = np.concatenate([np.zeros_like(ended[:1]), ended[:-1]]) == 0
    return Rollout(first, actions, outcome, valid)


def random_actions(spec: EnvSpec, horizon: int, num_lanes: int, seed: int) -> np.ndarray:
    """Return actions `[H, B, ...]`: uniform choices, or uniform between -1 and 1."""
    noise, space = np.random.default_rng(seed), spec.action_space
    if isinstance(space, Continuous):
        return noise.uniform(-1, 1, (horizon, num_lanes, space.size)).astype(np.float32)
    return noise.integers(space.size, size=(horizon, num_lanes)).astype(np.int32)


def check_repeats(episode: Rollout, again: Rollout) -> Iterator[Finding]:
    """Find whether the same keys, tasks and actions gave another episode."""
    if not np.array_equal(episode.first, again.first, equal_nan=True):
        yield Finding(True, "keys: reset is not the same under the same keys")
    elif any(
        not np.array_equal(one[episode.valid], other[episode.valid], equal_nan=True)
        for one, other in zip(*map(jax.tree.leaves, (episode.outcome, again.outcome)), strict=True)
    ):
        yield Finding(True, "keys: step is not the same under the same keys and actions")


def check_lanes(episode: Rollout, play: Play, tasks: Task, keys: LaneKeys) -> Iterator[Finding]:
    """Find lanes that depend on which others are beside them: half of the lanes on their own."""
    half = slice(len(keys) // 2, None)
    part = roll_out(
        play, jax.tree.map(lambda x: x[half], tasks), keys[half], episode.action[:, half]
    )
    near = lambda one, other: np.allclose(one, other, rtol=1e-3, atol=1e-3, equal_nan=True)
    if not near(part.first, episode.first[half]):
        yield Finding(True, "lanes: what reset gives a lane depends on the lanes beside it")
        return
    valid = part.valid[:FEW_STEPS] & episode.valid[:FEW_STEPS, half]
    for name in ("next_obs", "reward", "terminated", "truncated"):
        alone = getattr(part.outcome, name)[:FEW_STEPS][valid]
        if not near(alone, getattr(episode.outcome, name)[:FEW_STEPS, half][valid]):
            yield Finding(True, f"lanes: the {name} of a lane depends on the lanes beside it")


def check_numbers(episode: Rollout) -> Iterator[Finding]:
    """Find observations and rewards that are not finite."""
    outcome = episode.outcome
    arrays = {"the first observation": episode.first[None], "next_obs": outcome.next_obs}
    arrays |= {"reward": outcome.reward}
    for name, array in arrays.items():
        valid = episode.valid[: len(array)]
        if not np.isfinite(array[valid]).all():
            finite = np.isfinite(array.reshape((*valid.shape, -1))).all(axis=2)
            step, lane = np.argwhere(valid & ~finite)[0]
            yield Finding(True, f"numbers: {name} is not finite at step {step + 1}, lane {lane}")


def check_ends(spec: EnvSpec, episode: Rollout) -> Iterator[Finding]:
    """Find ends that are of two kinds, too early, or missing."""
    outcome, valid = episode.outcome, episode.valid
    both = outcome.terminated & outcome.truncated & valid
    early = episode.ended[:-1]
    if both.any():
        yield Finding(True, f"ends: terminated and truncated at once, in {both.sum()} rows")
    if early.any() and not spec.ends_early:
        step = np.argwhere(early)[0][0] + 1
        yield Finding(True, f"ends: an episode ended at step {step}, ends_early is False")
    elif (early & outcome.truncated[:-1]).any():
        step = np.argwhere(early & outcome.truncated[:-1])[0][0] + 1
        yield Finding(False, f"ends: an episode is cut off at step {step} of {spec.horizon}")
    if (valid[-1] & ~episode.ended[-1]).any():
        yield Finding(True, f"ends: after {spec.horizon} steps, the horizon, an episode goes on")


def check_autoreset(episode: Rollout) -> Iterator[Finding]:
    """Find successors that are the first observation of another episode.

    Either the successor at the end equals the first observation, and others before it do not. Or it
    is a jump beyond any before it, to where episodes begin: more than twice the longest in most
    lanes, with each number within 3 deviations of first observations on average.
    """
    next_obs, valid, ended = episode.outcome.next_obs, episode.valid, episode.ended
    lanes = np.flatnonzero((valid.sum(axis=0) > 2) & ended.any(axis=0))
    if not len(lanes):
        return
    last = ended.argmax(axis=0)[lanes]
    before = valid[:, lanes] & ~ended[:, lanes]
    same = (next_obs == episode.first).all(axis=2)
    complaint = Finding(
        True, "autoreset: the successor at the end of an episode is a first observation"
    )
    if same[last, lanes].mean() > 0.9 and same[:, lanes][before].mean() < 0.5:
        yield complaint
        return
    scale = next_obs[valid].std(axis=0)
    moves = scale > 1e-6
    jump = np.linalg.norm(
        ((next_obs - episode.obs) / np.where(moves, scale, 1.0))[..., moves], axis=2
    )
    longest = np.where(before, jump[:, lanes], 0.0).max(axis=0)
    mean, deviation = episode.first.mean(axis=0), episode.first.std(axis=0)
    away = np.abs(next_obs[last, lanes] - mean) / np.maximum(deviation, 0.05 * scale + 1e-6)
    is_jump = (jump[last, lanes] > 2.0 * longest) & (away[:, moves].mean(axis=1) < 3.0)
    if is_jump.mean() > 0.5:
        yield complaint


def check_visible(envs: AbstractEnvs, seed: int) -> Iterator[Finding]:
    """Find which numbers of the task the first observation reveals, and what one step reveals.

    What `spec.observed` lists may be observed.
    """
    tasks, first, step = first_steps(envs, seed)
    fields = {name: _targets(leaf) for name, leaf in _fields(tasks)}
    fields = {name: target for name, target in fields.items() if target.std(axis=0).any()}
    if not fields:
        return
    columns = np.cumsum([target.shape[1] for target in fields.values()])[:-1]
    joined = np.concatenate(list(fields.values()), axis=1)
    parts = [np.split(predictions(feature, joined), columns, axis=2) for feature in (first, step)]
    for (name, target), by_first, by_step in zip(fields.items(), *parts, strict=True):
        (low, text), (step_low, step_text) = _known(by_first, target), _known(by_step, target)
        if low > LEAK:
            observed = name.split(".")[0] in envs.spec.observed
            by_design = ", by design" if observed else ""
            line = f"visible: the first observation reveals task {name}, {text}{by_design}"
            yield Finding(not observed, line)
        elif step_low > NEARLY_ALL:
            yield Finding(False, f"visible: one step nearly reveals task {name}, {step_text}")
        else:
            how = f"first observation {text}; one step {step_text}"
            yield Finding(False, f"visible: task {name}: {how}")


def first_steps(
    envs: AbstractEnvs, seed: int
) -> tuple[Task, Float[np.ndarray, "N D"], Float[np.ndarray, "N E"]]:
    """Return train tasks, their first observations, and what one random step shows of each.

    That is observation, action, reward and successor, their squares and their products with the
    reward: rewards are made of such.
    """
    task_key, reset_key = jax.random.split(jax.random.key(seed))
    tasks = jax.tree.map(np.asarray, envs.sample_tasks("train", NUM_TASKS, key=task_key))
    actions = random_actions(envs.spec, 1, NUM_TASKS, seed + 1)
    keys, play, parts = keys_for(tasks, reset_key), player(envs), []
    for start in range(0, NUM_TASKS, NUM_LANES):
        lanes = slice(start, start + NUM_LANES)
        part = jax.tree.map(lambda x, lanes=lanes: x[lanes], tasks)
        parts.append(roll_out(play, part, keys[lanes], actions[:, lanes]))
    first = np.concatenate([part.first for part in parts]).astype(np.float64)
    reward = np.concatenate([part.outcome.reward[0] for part in parts])[:, None]
    successor = np.concatenate([part.outcome.next_obs[0] for part in parts])
    action = np.asarray(envs.spec.action_space.encode(actions[0]))
    step = np.concatenate([first, action, reward, successor], axis=1).astype(np.float64)
    return tasks, first, np.concatenate([step, step**2, step * reward], axis=1)


def describe_play(spec: EnvSpec, episode: Rollout) -> Iterator[Finding]:
    """State what random play earned, beside the reference returns."""
    total = np.where(episode.valid, episode.outcome.reward, 0.0).sum(axis=0, dtype=np.float64)
    low, high = mean_interval(total) or (total[0], total[0])
    text = f"random play earns {total.mean():.4g} ({low:.4g} to {high:.4g}) an episode"
    known = {"floor": spec.floor, "ceiling": spec.ceiling}
    text += "".join(f", {name} {value:g}" for name, value in known.items() if value is not None)
    yield Finding(False, f"play: {text}")


def _targets(leaf: np.ndarray) -> Float[np.ndarray, "N P"]:
    """Return a field of the tasks as numbers to predict.

    Whole numbers, one a task, of few values are kinds: each has its indicator.
    """
    values = leaf.reshape((len(leaf), -1))
    if leaf.dtype.kind in "iub" and values.shape[1] == 1:
        kinds = np.unique(values)
        if 1 < len(kinds) <= MAX_KINDS:
            return (values == kinds).astype(np.float64)
    return values.astype(np.float64)


def _known(
    found: Float[np.ndarray, "2 N P"], target: Float[np.ndarray, "N P"]
) -> tuple[float, str]:
    """Return how well a field of the task is predicted: the lower end, 0 to 1, and in words.

    Of several numbers it is the best known one that counts.
    """
    if target.shape[1] > 1 and set(np.unique(target)) == {0.0, 1.0} and (target.sum(1) == 1).all():
        right, low, high, chance = accuracy(found, target)
        text = f"accuracy {right:.2f} ({low:.2f} to {high:.2f}; chance {chance:.2f})"
        return (low - chance) / (1.0 - chance), text
    share, low, high = r_squared(found, target)
    best = int(share.argmax())
    which = f" of number {best}" if target.shape[1] > 1 else ""
    shown = [f"{round(float(value[best]), 2) + 0.0:.2f}" for value in (share, low, high)]
    return float(low[best]), "R2 {} ({} to {})".format(*shown) + which


def _fields(tasks: Task) -> Iterator[tuple[str, np.ndarray]]:
    for path, leaf in jax.tree_util.tree_flatten_with_path(tasks)[0]:
        yield jax.tree_util.keystr(path, simple=True, separator=".") or "itself", np.asarray(leaf)


def _task_numbers(tasks: Task) -> Float[np.ndarray, "N P"]:
    rows = [np.asarray(leaf).reshape((len(leaf), -1)) for leaf in jax.tree.leaves(tasks)]
    return np.concatenate(rows, axis=1).astype(np.float64)
