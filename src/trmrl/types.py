"""Every record that travels between the parts of the library, with its axes and its moment.

Axes: `K` episodes of a trial, `H` steps of an episode slot, `T` time (`K * H`), `B` lanes,
`A` action features, `D` observation features. Time comes first. Records hold NumPy
arrays when a host world made them and JAX arrays otherwise; both have one meaning.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Key, PyTree, Shaped

# To a static checker, either library's array is anything; executed annotations tell them apart.
if TYPE_CHECKING:
    Array = Any
else:
    Array = jax.Array | np.ndarray
PRNGKey = Key[jax.Array, ""]
LaneKeys = Key[jax.Array, " B"]  # of each lane its own: what it draws depends on no other lane
Memory = PyTree
Task = PyTree
EnvState = Any


class TrmrlError(Exception):
    """Something the user can correct, in one line; the command line then exits with 2."""


@dataclass(frozen=True)
class Continuous:
    """Real-valued actions `[B, size]`; -1 and 1 are the limits of what a world's actuators can do.

    Agents may answer beyond them: worlds clip actions where their actuators do.
    """

    size: int

    def encode(self, action: Float[Array, "*axes A"]) -> Float[Array, "*axes A"]:
        """Return the action as the features an agent is later shown: itself."""
        return action

    def zeros(self, shape: tuple[int, ...]) -> Float[np.ndarray, "*axes A"]:
        """Return actions of zeros, `[*shape, size]`."""
        return np.zeros((*shape, self.size), np.float32)


@dataclass(frozen=True)
class Discrete:
    """One of `size` actions, an `int32` in `[0, size)`."""

    size: int

    def encode(self, action: Int[Array, "*axes"]) -> Float[Array, "*axes A"]:
        """Return the action one-hot, `[..., size]`, as an agent is later shown it."""
        choices = np.arange(self.size, dtype=np.int32).reshape((1,) * action.ndim + (self.size,))
        return (action[..., None] == choices).astype(np.float32)

    def zeros(self, shape: tuple[int, ...]) -> Int[np.ndarray, "*axes"]:
        """Return actions of zeros, the first choice, `[*shape]`."""
        return np.zeros(shape, np.int32)


Space = Continuous | Discrete


@dataclass(frozen=True)
class EnvSpec:
    """What an agent must know of worlds before it acts in one.

    `name` is that of one MDP; `family` is its kind, by which recipes and references are chosen:
    "bandit", "tabular", "grid", "point", "rules", "locomotion", "manipulation", or a name of one's
    own. `horizon` is the number of steps of an episode slot, `num_episodes` of slots in a trial.
    Where `ends_early` is False, every episode takes its whole slot, unless its simulation diverges.
    `floor` and `ceiling` are reference returns of one episode on the test split (a do-nothing or
    random policy, and the best known), or None where nobody knows. `has_success`: every
    `Outcome.success` is an array. `shared_splits`: tasks of one split are in another, by design.
    `observed` names the fields of a task that agents may observe. `task_size` is how many numbers a
    task has (`task_numbers`), or 0 where nobody states it: training may have a target of them, and
    no agent is shown them.
    """

    name: str
    family: str
    obs_size: int
    action_space: Space
    horizon: int
    num_episodes: int
    ends_early: bool = False
    splits: tuple[str, ...] = ("train", "test")
    floor: float | None = None
    ceiling: float | None = None
    summary: str = ""
    has_success: bool = False
    shared_splits: bool = False
    observed: tuple[str, ...] = ()
    task_size: int = 0

    @property
    def trial_length(self) -> int:
        """The number of steps in a trial: of all its episode slots."""
        return self.num_episodes * self.horizon

    def check_split(self, split: str) -> None:
        """Raise `TrmrlError` unless this family has the split."""
        if split not in self.splits:
            has = ", ".join(self.splits)
            raise TrmrlError(f"{self.name} has no split {split!r}: choose one of {has}")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Timestep:
    """What an agent sees before it acts."""

    obs: Float[Array, "*axes D"]  # observed now
    prev_action: Float[Array, "*axes A"]  # encoded; zero at the start of a trial, else kept
    prev_reward: Float[Array, "*axes"]  # unnormalized; zero at the start of a trial, else kept
    episode_start: Bool[Array, "*axes"]  # obs is the first of an episode (task and memory kept)
    trial_start: Bool[Array, "*axes"]  # obs is the first of a trial (memory cleared before use)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Decision:
    """What an agent answered, as computed when acting; never recomputed into these fields."""

    action: Shaped[Array, "..."]  # as the action space has it
    log_prob: Float[Array, "*axes"]  # of that action, under the policy that took it
    value: Float[Array, "*axes"]  # expected rest of the return, in the agent's own units


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Outcome:
    """What the world answered to one action."""

    reward: Float[Array, "*axes"]  # unnormalized
    terminated: Bool[Array, "*axes"]  # the world ended the episode
    truncated: Bool[Array, "*axes"]  # the clock ended the episode
    next_obs: Float[Array, "*axes D"]  # the true successor, never a reset observation
    # What training may learn from where `reward` is sparse; nobody acts on it or is judged by it.
    dense_reward: Float[Array, "*axes"] | None = None
    # The world's own mark of success at this step, where it has one.
    success: Bool[Array, "*axes"] | None = None
    # The episode ended here, terminated, because its simulation diverged; None where none can.
    diverged: Bool[Array, "*axes"] | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Trajectory:
    """Three moments of the same step, stacked: the rows of a trial are `[K, H, B]`."""

    timestep: Timestep
    decision: Decision
    outcome: Outcome
    valid: Bool[Array, "*axes"]  # this row happened (False after an early end, inside its slot)

    def flatten_time(self) -> "Trajectory":
        """Return the rows with their episodes laid end to end: `[K, H, B]` becomes `[T, B]`."""
        return jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), self)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Trial:
    """K episodes on one task in every lane, and the tasks they were rolled out on."""

    rows: Trajectory  # [K, H, B]
    task: Task  # [B, ...]
    task_id: Int[Array, " B"] | None = None  # number in the fixed set; None if drawn afresh
    view: PyTree = None  # [K, H, B, ...], what a drawing needs before each step; None unless asked


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Learner:
    """What `update` changes, and nothing else does."""

    model: PyTree  # everything `act` needs: weights and normalizers
    optimizer: PyTree  # optimizer state, and whatever steers the step size
    store: PyTree = None  # stored experience, or None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """What survives between updates. It *is* the checkpoint.

    The loop alone advances the key and the counters; these are 64 bits wide, on the host.
    """

    learner: Learner
    key: PRNGKey
    env_steps: Int[np.ndarray, ""]  # environment steps so far (valid rows only)
    updates: Int[np.ndarray, ""]  # calls of `update` so far


Metrics = dict[str, Shaped[jax.Array, "..."]]  # scalars, or lists such as one number per episode


def replace(record: Any, **changes: Any) -> Any:
    """Return a copy of a record with some fields changed."""
    return dataclasses.replace(record, **changes)


def task_numbers(tasks: Task) -> Float[Array, "B P"]:
    """Return every number of tasks side by side."""
    leaves = [jnp.asarray(leaf, jnp.float32) for leaf in jax.tree.leaves(tasks)]
    return jnp.concatenate([leaf.reshape((len(leaf), -1)) for leaf in leaves], axis=1)


def base_name(env: str) -> str:
    """Return the name of the world that an oracle (`NAME+task`) shows the task of; else `env`."""
    return env.partition("+")[0]


def number_distinct(items: Sequence[Any]) -> Int[np.ndarray, " N"]:
    """Return for each item (of JSON values) the number of the first that equals it."""
    first: dict[str, int] = {}
    keys = (json.dumps(item, sort_keys=True) for item in items)
    return np.asarray([first.setdefault(key, i) for i, key in enumerate(keys)], np.int64)


def count_label(num_items: int, num_distinct: int) -> str:
    """Return how many items there are, and how many distinct ones if some of them are equal."""
    some = f" ({num_distinct:,} distinct)" if num_distinct < num_items else ""
    return f"{num_items:,}{some}"


PerTask = list[list[float]]  # [num_tasks][num_episodes]
PerEpisode = dict[str, list[float]]  # mean over tasks, ci95_low, ci95_high: [num_episodes] each


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How an agent adapted to a fixed set of held-out tasks, one trial on each.

    Intervals are 95 % percentile bootstraps over distinct tasks. Files of older versions lack some
    fields: the values that stand for those are the defaults.
    """

    env: str
    agent: str = ""  # the name of the agent
    split: str
    explore: bool = False  # actions sampled, rather than the policy's mode
    seed: int = 0  # of the tasks and the noise of the evaluation, not of training
    num_tasks: int
    num_episodes: int
    env_steps: int  # what training had cost by then
    # [num_episodes]: env steps that a task had cost before each of its episodes, all its lanes
    # together, mean over tasks. Empty where it was not counted.
    experience: list[float] = field(default_factory=list)
    return_per_episode: PerEpisode
    returns: PerTask  # undiscounted sums of rewards; the mean over a task's lanes
    # Success at any step of the episode, and at its last step: the mean over a task's lanes, in
    # [0, 1]. None in worlds without success.
    success_per_episode: PerEpisode | None = None
    success_at_end_per_episode: PerEpisode | None = None
    success: PerTask | None = None
    success_at_end: PerTask | None = None
    # [num_episodes * H] each, by name (`STEP_NUMBERS`): rewards of the trial's steps over tasks,
    # their mean with its interval and three percentiles; 0 after an early end of an episode.
    # `running` is the share of episodes that had not ended. None where it was not kept.
    reward_per_step: dict[str, list[float]] | None = None
    # [num_tasks]: each task's numbers, by name. Empty where they were not kept.
    tasks: list[Any] = field(default_factory=list)

    @functools.cached_property
    def distinct(self) -> Int[np.ndarray, " num_tasks"]:
        """The number of the first task that equals each; where tasks were not kept all differ."""
        return number_distinct(self.tasks or range(self.num_tasks))

    @property
    def tasks_label(self) -> str:
        """How many tasks there are, and how many distinct ones if some of them are equal."""
        return count_label(self.num_tasks, len(np.unique(self.distinct)))

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values; fields that are None are left out."""
        record = dataclasses.asdict(self)
        return {name: value for name, value in record.items() if value is not None}

    @classmethod
    def from_json(cls, value: Any) -> "Evaluation":
        """Return the evaluation that `to_json`, of this version or an older one, gave as `value`.

        Raises `TrmrlError` naming the field on one that is unknown, missing or of another type or
        size than it should be.
        """
        if not isinstance(value, dict):
            raise TrmrlError(f"an evaluation is a JSON object, not {_kind(value)}")
        names = [entry.name for entry in dataclasses.fields(cls)]
        needed = [name for name in names if name not in _MAY_LACK]
        if any(name in value for name in _SUCCESS):  # all of them, or none
            needed += _SUCCESS
        for name in value:
            if name not in names:
                raise TrmrlError(f"an evaluation has no field {name!r}")
        for name in needed:
            if name not in value:
                raise TrmrlError(f"the field {name!r} is missing")
        sizes = {name: _count(name, value[name], 1) for name in ("num_tasks", "num_episodes")}
        return cls(**{name: _read_field(name, content, **sizes) for name, content in value.items()})


_SUCCESS = ("success_per_episode", "success_at_end_per_episode", "success", "success_at_end")
_MAY_LACK = ("agent", "explore", "seed", "experience", "reward_per_step", "tasks", *_SUCCESS)
STEP_NUMBERS = ("mean", "ci95_low", "ci95_high", "p10", "p50", "p90", "running")


def _read_field(name: str, value: Any, *, num_tasks: int, num_episodes: int) -> Any:
    """Return one field of an evaluation; raises `TrmrlError` unless it is as declared there."""
    if name in ("env", "agent", "split"):
        return _expect(str, name, value)
    if name == "explore":
        return _expect(bool, name, value)
    if name in ("seed", "num_tasks", "num_episodes", "env_steps"):
        return _count(name, value)
    if name == "experience":
        return _numbers(name, value, num_episodes) if value != [] else []
    if name.endswith("_per_episode"):
        if set(_expect(dict, name, value)) != {"mean", "ci95_low", "ci95_high"}:
            raise TrmrlError(f"the field {name!r} needs mean, ci95_low and ci95_high, no more")
        return {key: _numbers(f"{name}.{key}", row, num_episodes) for key, row in value.items()}
    if name == "reward_per_step":
        if set(_expect(dict, name, value)) != set(STEP_NUMBERS):
            raise TrmrlError(f"the field {name!r} needs {', '.join(STEP_NUMBERS)}, no more")
        num_steps = len(_expect(list, f"{name}.mean", value["mean"]))
        if not num_steps or num_steps % num_episodes:
            raise TrmrlError(f"the field {name!r} has {num_steps} steps in {num_episodes} episodes")
        return {key: _numbers(f"{name}.{key}", row, num_steps) for key, row in value.items()}
    rows = _expect(list, name, value)
    if len(rows) != num_tasks and not (name == "tasks" and rows == []):
        raise TrmrlError(f"the field {name!r} has {len(rows)} entries for {num_tasks} tasks")
    return rows if name == "tasks" else [_numbers(name, row, num_episodes) for row in rows]


def _expect(kind: type, name: str, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TrmrlError(f"the field {name!r} is {_kind(value)}, expected {kind.__name__}")
    return value


def _count(name: str, value: Any, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise TrmrlError(f"the field {name!r} is {_kind(value)}, expected {least} or more")
    return value


def _numbers(name: str, value: Any, size: int) -> list[float]:
    """Return a row of `size` finite numbers."""
    row = _expect(list, name, value)
    if len(row) != size:
        raise TrmrlError(f"the field {name!r} has a row of {len(row)}, expected {size}")
    for number in row:
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not is_number or not math.isfinite(number):
            raise TrmrlError(f"the field {name!r} holds {_kind(number)}, expected numbers")
    return [float(number) for number in row]


def _kind(value: Any) -> str:
    """Return a value as an error names it: itself if it is short, else its type."""
    shown = repr(value)
    return shown if len(shown) <= 20 else f"a {type(value).__name__}"
