"""Any Gymnasium environment, with a task that can be set, as worlds of this library."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from trmrl.envs.python import Pool, PythonEnvs
from trmrl.types import Continuous, Discrete, EnvSpec, Space, Task, TrmrlError

try:
    import gymnasium
    from gymnasium import spaces
except ModuleNotFoundError as error:
    raise TrmrlError("this needs Gymnasium: pip install 'trmrl[gymnasium]'") from error

MAX_CHOICES = 256  # of several discrete actions at once, taken as one


def from_gymnasium(
    make_env: Callable[[], Any],
    sample_tasks: Callable[[str, int, np.random.Generator], Task],
    set_task: Callable[[Any, Any], None],
    *,
    name: str,
    family: str = "gymnasium",
    horizon: int = 0,
    num_episodes: int = 2,
    ends_early: bool = True,
    success: str = "",
    num_processes: int = 0,
    ray_address: str = "",
    **fields: Any,
) -> PythonEnvs:
    """Return worlds of which each lane is an environment of its own, from `make_env()`.

    `sample_tasks(split, num_tasks, noise)` draws tasks: a pytree of arrays with leading axis
    `num_tasks`. `set_task(env, task)` applies one of them, a row of each array, before every
    `env.reset(seed=...)`, whose seed is the lane's own; the environment is never to reset itself,
    and is stepped no more once its episode has ended.

    An episode has `horizon` steps, by default the environment's own time limit; say
    `ends_early=False` where it never terminates. `success` names the entry of `info` that marks
    success, if any. With `num_processes` the lanes are spread over that many processes, which
    import the two functions by their module; with a `ray_address` as well ("auto": that of this
    machine) these are actors of a Ray cluster. `family` and `fields` are as in `EnvSpec`.

    Observations are flattened as `gymnasium.spaces.flatten` does; their numbers are named in
    `obs_names`. Of a bounded `Box` of actions, -1 to 1 spans the bounds, and an action beyond is
    clipped; `MultiDiscrete` and `MultiBinary` of 256 combinations or fewer are one discrete action.
    Raises `TrmrlError` on other spaces, on an environment that resets itself, without a horizon,
    on one longer than the time limit, and on a `ray_address` without `num_processes`.
    """
    env = make_env()
    if not isinstance(env, gymnasium.Env):
        raise TrmrlError(f"{name}: make_env gave a {type(env).__name__}, expected a gymnasium.Env")
    limit = _time_limit(name, env)
    horizon = horizon or limit or 0
    if horizon < 1 or horizon > (limit or horizon):
        raise TrmrlError(
            f"{name}: horizon is {horizon}, expected {f'1 to {limit}' if limit else '1 or more'}"
        )
    space, _ = read_actions(name, env.action_space)
    if not env.observation_space.is_np_flattenable:
        raise TrmrlError(f"{name}: observations are {env.observation_space}, expected fixed sizes")
    names = tuple(_names(env.observation_space))
    env.close()
    spec = EnvSpec(
        name=name,
        family=family,
        obs_size=len(names),
        action_space=space,
        horizon=horizon,
        num_episodes=num_episodes,
        ends_early=ends_early,
        has_success=bool(success),
        **fields,
    )
    if ray_address and not num_processes:
        raise TrmrlError(
            f"{name}: ray_address is {ray_address!r}, expected num_processes beside it"
        )
    make_lane = functools.partial(GymnasiumLane, name, make_env, set_task, success)
    return PythonEnvs(spec, Pool(name, make_lane, num_processes, ray_address), sample_tasks, names)


class GymnasiumLane:
    """One environment."""

    def __init__(
        self,
        name: str,
        make_env: Callable[[], Any],
        set_task: Callable[[Any, Any], None],
        success: str,
    ) -> None:
        self._name, self._env, self._set_task, self._success = name, make_env(), set_task, success
        self._space = self._env.observation_space
        _, self._decode = read_actions(name, self._env.action_space)

    def reset(self, task: Any, seed: int) -> np.ndarray:
        """Begin an episode of one task."""
        self._set_task(self._env, task)
        return self._flat(self._env.reset(seed=seed)[0])

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, bool]:
        """Return successor, reward, terminated, truncated and success."""
        answer = self._env.step(self._decode(action))
        obs, reward, terminated, truncated, extra = answer
        succeeded = False
        if self._success:
            if self._success not in extra:
                raise TrmrlError(f"{self._name}: its info has no entry {self._success!r}")
            succeeded = bool(extra[self._success])
        return self._flat(obs), float(reward), bool(terminated), bool(truncated), succeeded

    def _flat(self, obs: Any) -> np.ndarray:
        return np.asarray(spaces.flatten(self._space, obs), np.float32)


def read_actions(name: str, space: Any) -> tuple[Space, Callable[[Any], Any]]:
    """Return a space of actions as ours, and what turns one of our actions into one of its own.

    Raises `TrmrlError` where it is of another kind than `from_gymnasium` lists.
    """
    if isinstance(space, spaces.Discrete):
        return Discrete(int(space.n)), lambda action: int(action) + int(space.start)
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return Continuous(int(np.prod(space.shape))), _stretch(space)
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        is_binary = isinstance(space, spaces.MultiBinary)
        sizes = np.full(space.shape, 2) if is_binary else np.asarray(space.nvec)
        num_choices = int(np.prod(sizes, dtype=np.float64))
        if num_choices <= MAX_CHOICES:
            start = 0 if is_binary else space.start
            one = lambda action: np.stack(np.unravel_index(int(action), sizes.ravel()))
            decode = lambda action: (one(action).reshape(space.shape) + start).astype(space.dtype)
            return Discrete(num_choices), decode
        raise TrmrlError(
            f"{name}: {num_choices:,} combinations of actions, expected {MAX_CHOICES} or fewer"
        )
    raise TrmrlError(
        f"{name}: actions are {space}, expected Box, Discrete or a small MultiDiscrete"
    )


def _stretch(space: Any) -> Callable[[Any], Any]:
    """Return what stretches -1 to 1 over the bounds of a space, where it has two, and clips."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    bounded = np.isfinite(low) & np.isfinite(high)
    start, end = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
    middle, width = (end + start) / 2, (end - start) / 2

    def decode(action: Any) -> np.ndarray:
        action = np.asarray(action, np.float64).reshape(space.shape)
        return np.clip(middle + width * action, low, high).astype(space.dtype)

    return decode


def _time_limit(name: str, env: Any) -> int | None:
    """Return the time limit among an environment's wrappers; refuse one that resets it."""
    limit = None
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.wrappers.Autoreset):
            raise TrmrlError(f"{name}: leave out the wrapper Autoreset, trials reset their worlds")
        if isinstance(env, gymnasium.wrappers.TimeLimit):
            limit = env._max_episode_steps
        env = env.env
    return limit


def _names(space: Any, path: str = "") -> Iterator[str]:
    """Yield a name for each number of a flattened observation, in its order."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces
        for name, part in parts.items() if isinstance(parts, dict) else enumerate(parts):
            yield from _names(part, f"{path}.{name}" if path else f"{name}")
    else:
        size = spaces.flatdim(space)
        yield from (f"{path}[{i}]" if path else f"[{i}]" for i in range(size))
