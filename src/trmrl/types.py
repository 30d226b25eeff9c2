"""Every record that travels between an agent and a world, with its axes and its moment.

Lives here: records, spaces, the two abstract doors (in words) and the one error a user can mend.
Does not live here: anything that computes.

Axes: `K` episodes of a trial, `H` steps of an episode slot, `T` time (`K * H`), `B` lanes,
`A` action features, `D` observation features. Time comes first. Records hold NumPy
arrays when a host world made them and JAX arrays otherwise; both have one meaning.
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Key, PyTree, Shaped

# To a static checker, either library's array is anything; executed annotations tell them apart.
if TYPE_CHECKING:
    Array = Any
else:
    Array = jax.Array | np.ndarray
PRNGKey = Key[jax.Array, ""]
Memory = PyTree
Task = PyTree
EnvState = Any


class TrmrlError(Exception):
    """Something the user can mend; its message is one line, and the command line exits with 2."""


@dataclass(frozen=True)
class Continuous:
    """Real-valued actions `[B, size]`; worlds clip them where their actuators do."""

    size: int

    def encode(self, action: Float[Array, "*axes A"]) -> Float[Array, "*axes A"]:
        """Return the action as the features an agent is later shown: itself."""
        return action


@dataclass(frozen=True)
class Discrete:
    """One of `size` actions, an `int32` in `[0, size)`."""

    size: int

    def encode(self, action: Int[Array, "*axes"]) -> Float[Array, "*axes A"]:
        """Return the action one-hot, `[..., size]`, as an agent is later shown it."""
        choices = np.arange(self.size, dtype=np.int32).reshape((1,) * action.ndim + (self.size,))
        return (action[..., None] == choices).astype(np.float32)


Space = Continuous | Discrete


@dataclass(frozen=True)
class EnvSpec:
    """What an agent must know of a family of worlds before it meets one.

    `horizon` is the number of steps of an episode slot, `num_episodes` of slots in a trial.
    `floor` and `ceiling` are reference returns of one episode on the test split (a do-nothing or
    random policy, and the best known), or None where nobody knows.
    """

    name: str
    obs_size: int
    action_space: Space
    horizon: int
    num_episodes: int
    splits: tuple[str, ...] = ("train", "test")
    floor: float | None = None
    ceiling: float | None = None
    summary: str = ""

    def check_split(self, split: str) -> None:
        """Raise `TrmrlError` unless this family has the split."""
        if split not in self.splits:
            has = ", ".join(self.splits)
            raise TrmrlError(f"{self.name} has no split {split!r}: choose one of {has}")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Timestep:
    """What an agent sees before it acts."""

    obs: Float[Array, "*axes D"]  # seen now
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
    extras: PyTree = None  # private to the agent that wrote it


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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Trajectory:
    """Three moments of the same step, stacked: a trial is `[K, H, B]`."""

    timestep: Timestep
    decision: Decision
    outcome: Outcome
    valid: Bool[Array, "*axes"]  # this row happened (False after an early end, inside its slot)

    def flatten_time(self) -> "Trajectory":
        """Return the trial with its episodes laid end to end: `[K, H, B]` becomes `[T, B]`."""
        return jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), self)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """What survives between updates. It *is* the checkpoint."""

    model: PyTree  # everything `act` needs: weights and normalizers
    optimizer: PyTree  # optimizer state, and whatever steers the step size
    replay: PyTree  # stored experience, or None
    key: PRNGKey  # consumed and replaced by every update
    env_steps: Int[Array, ""]  # environment steps seen so far (valid rows only)
    updates: Int[Array, ""]  # calls of `update` so far


Metrics = dict[str, Float[jax.Array, "..."]]  # scalars, or one number per episode


def replace(record: Any, **changes: Any) -> Any:
    """Return a copy of a record with some fields changed."""
    return dataclasses.replace(record, **changes)
