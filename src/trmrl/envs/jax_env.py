"""Any environment written as pure functions of one lane, as worlds of this library."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PyTree

from trmrl.envs.base import JAX, AbstractEnvs, Driver, split_keys
from trmrl.types import (
    Array,
    Continuous,
    Discrete,
    EnvSpec,
    LaneKeys,
    Outcome,
    PRNGKey,
    Space,
    Task,
    TrmrlError,
    replace,
)

# Of one lane: reset(key, task) -> obs, state; and
# step(key, state, action, task) -> obs, state, reward, terminated, and success where it has one.
Reset = Callable[[PRNGKey, Any], tuple[PyTree, Any]]
Step = Callable[[PRNGKey, Any, Any, Any], tuple]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LaneState:
    """What the environment keeps, its task, the lanes' keys, and the steps taken."""

    inner: Any
    task: Any
    key: LaneKeys
    clock: Int[Array, ""]


class JaxEnvs(AbstractEnvs):
    """`B` lanes of pure functions, one task each. `draw(split, num_tasks, key)` gives tasks.

    An episode is truncated by `spec.horizon` alone. Observations are the numbers of whatever
    `reset_lane` and `step_lane` give, side by side.
    """

    driver: ClassVar[Driver] = JAX
    spec: EnvSpec = eqx.field(static=True)
    reset_lane: Reset = eqx.field(static=True)
    step_lane: Step = eqx.field(static=True)
    draw: Callable[[str, int, PRNGKey], Task] = eqx.field(static=True)

    def sample_tasks(self, split: str, num_tasks: int, *, key: PRNGKey) -> Task:
        """Draw tasks of a split."""
        self.spec.check_split(split)
        return self.draw(split, num_tasks, key)

    def reset(self, tasks: Task, *, key: LaneKeys) -> tuple[LaneState, Float[Array, "B D"]]:
        """Begin an episode of each task."""
        tasks = jax.tree.map(jnp.asarray, tasks)
        reset_key, step_key = split_keys(key, 2)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            obs, inner = jax.vmap(self.reset_lane)(reset_key, tasks)
        # Strongly typed, as steps return it.
        inner = jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), inner)
        return LaneState(inner, tasks, step_key, jnp.int32(0)), _side_by_side(obs)

    def step(self, env_state: LaneState, action: Array) -> tuple[LaneState, Outcome]:
        """Answer one action per lane; what a lane draws at a step comes from its key and clock."""
        keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(env_state.key, env_state.clock)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            obs, inner, reward, terminated, *success = jax.vmap(self.step_lane)(
                keys, env_state.inner, action, env_state.task
            )
        same = lambda new, old: new.astype(old.dtype).reshape(old.shape)
        inner = jax.tree.map(same, inner, env_state.inner)
        clock = env_state.clock + 1
        terminated = terminated.astype(bool)
        outcome = Outcome(
            reward=reward.astype(jnp.float32),
            terminated=terminated,
            truncated=~terminated & (clock >= self.spec.horizon),
            next_obs=_side_by_side(obs),
            success=success[0].astype(bool) if success else None,
        )
        return LaneState(inner, env_state.task, env_state.key, clock), outcome

    def change_task(self, env_state: LaneState, tasks: Task) -> LaneState:
        """Return the state with other tasks, for the steps to come."""
        return replace(env_state, task=jax.tree.map(jnp.asarray, tasks))

    def view(self, env_state: LaneState) -> PyTree:
        """Return what the environment keeps."""
        return env_state.inner


def from_jax(
    reset: Reset,
    step: Step,
    sample_tasks: Callable[[str, int, PRNGKey], Task],
    *,
    name: str,
    action_space: Space,
    horizon: int,
    num_episodes: int = 2,
    family: str = "jax",
    **fields: Any,
) -> JaxEnvs:
    """Return worlds of pure functions of one lane, stepped in a compiled loop.

    `reset(key, task)` gives an observation and a state; `step(key, state, action, task)` gives
    observation, state, reward, whether it terminated and, where it has one, its mark of success.
    Neither may reset, nor count a time limit as a termination: episodes are truncated at `horizon`.
    `sample_tasks(split, num_tasks, key)` draws tasks, a pytree with leading axis `num_tasks`.
    `family` and `fields` are as in `EnvSpec`.
    """
    first_split = fields.get("splits", ("train",))[0]
    has_success = False

    def first_step(key: PRNGKey) -> list[Array]:
        nonlocal has_success
        drawn = sample_tasks(first_split, 1, key)
        task = jax.tree.map(lambda x: jnp.asarray(x)[0], drawn)
        obs, state = reset(key, task)
        is_discrete = isinstance(action_space, Discrete)
        action = jnp.int32(0) if is_discrete else jnp.zeros(action_space.size)
        has_success = len(step(key, state, action, task)) == 5
        return jax.tree.leaves(obs)

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        obs = jax.eval_shape(lambda: first_step(jax.random.key(0)))
    spec = EnvSpec(
        name=name,
        family=family,
        obs_size=sum(int(np.prod(leaf.shape)) for leaf in obs),
        action_space=action_space,
        horizon=horizon,
        num_episodes=num_episodes,
        has_success=has_success,
        **fields,
    )
    return JaxEnvs(spec, reset, step, sample_tasks)


def from_gymnax(
    env: Any,
    params: Any,
    sample_tasks: Callable[[str, int, PRNGKey], dict[str, Any]],
    *,
    name: str,
    horizon: int = 0,
    family: str = "gymnax",
    **fields: Any,
) -> JaxEnvs:
    """Return worlds of a gymnax environment (1.0 or newer), as `env, params = gymnax.make(...)`.

    A task is a dict of those of its `params` that differ. Its `step` resets itself, so `step_env`
    is called; its time limit is `horizon`, by default the one of `params`. Of a bounded `Box` of
    actions, -1 to 1 spans the bounds. `fields` are as in `from_jax`; say `ends_early=True` where
    it terminates. Raises `TrmrlError` on an older gymnax, whose terminations include time limits,
    and on other spaces of actions than `Discrete` and `Box`.

    What an environment draws in its `reset_env` it draws anew in every episode: where that is what
    a trial must find out (arms, goals), use `from_jax` and put it into the task.
    """
    if getattr(env, "is_truncated", None) is None:
        raise TrmrlError(
            f"{name}: expected gymnax 1.0 or newer, which separates time limits from ends"
        )
    space, decode = _read_actions(name, env.action_space(params))

    def step(key: PRNGKey, state: Any, action: Any, task: Any) -> tuple:
        with_task = params.replace(**task)
        answer = env.step_env(key, state, decode(action), with_task)
        obs, state, reward, terminated, _ = answer
        return obs, state, reward, terminated

    return from_jax(
        lambda key, task: env.reset_env(key, params.replace(**task)),
        step,
        sample_tasks,
        name=name,
        action_space=space,
        horizon=horizon or int(params.max_steps_in_episode),
        family=family,
        **fields,
    )


def _read_actions(name: str, space: Any) -> tuple[Space, Callable[[Any], Any]]:
    """Return a space of actions as ours, and what turns one of our actions into one of its own."""
    if getattr(space, "n", None) is not None:
        return Discrete(int(space.n)), lambda action: action
    if getattr(space, "low", None) is None:
        raise TrmrlError(f"{name}: actions are {space}, expected Discrete or Box")
    low, high = (jnp.broadcast_to(jnp.asarray(x), space.shape) for x in (space.low, space.high))
    bounded = jnp.isfinite(low) & jnp.isfinite(high)
    start, end = jnp.where(bounded, low, -1.0), jnp.where(bounded, high, 1.0)
    stretch = lambda x: (start + end) / 2 + (end - start) / 2 * x.reshape(space.shape)
    return Continuous(int(np.prod(space.shape))), lambda x: jnp.clip(stretch(x), low, high)


def _side_by_side(obs: PyTree) -> Float[Array, "B D"]:
    rows = [leaf.reshape((len(leaf), -1)).astype(jnp.float32) for leaf in jax.tree.leaves(obs)]
    return jnp.concatenate(rows, axis=1)
