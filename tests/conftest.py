"""Strictness for every test, and the small worlds and cores that several of them share."""

import functools
import importlib.metadata
import mmap
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jaxlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")


def compiler_flags() -> str:
    """Tests compile much and run little, and fusion emitters take half of the time of compiling.

    XLA refuses flags it does not know, so that one is looked for in its library first.
    """
    emitters = "xla_cpu_use_fusion_emitters"
    path = Path(jaxlib.__file__).with_name("libjax_common.so")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as library:
        is_known = library.find(emitters.encode()) >= 0
    return "--xla_backend_optimization_level=0" + f" --{emitters}=false" * is_known


os.environ.setdefault("XLA_FLAGS", compiler_flags())

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.agents.base import AbstractAgent, TaskPlan
from trmrl.agents.memory import MemoryAgent
from trmrl.envs.base import HOST, AbstractEnvs, Driver
from trmrl.envs.metaworld import _install
from trmrl.learners.outer import Batch, Rollouts
from trmrl.learners.ppo import PPO
from trmrl.nets.gru import GRUConfig
from trmrl.nets.gtrxl import GTrXLConfig
from trmrl.nets.heads import HeadConfig, policy_head
from trmrl.nets.lstm import LSTMConfig
from trmrl.nets.snail import SNAILConfig
from trmrl.nets.transformer import TransformerConfig
from trmrl.types import Continuous, EnvSpec, Outcome, replace

jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Many tests build the same small programs: compile each once.
_programs = tempfile.TemporaryDirectory(prefix="trmrl-programs-")
jax.config.update("jax_compilation_cache_dir", _programs.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def has_metaworld():
    try:
        return importlib.metadata.version("metaworld") == _install.VERSION
    except importlib.metadata.PackageNotFoundError:
        return False


def pytest_collection_modifyitems(items):
    skip = pytest.mark.skip(reason=f"metaworld {_install.VERSION} is not installed")
    for item in items:
        if item.get_closest_marker("metaworld") and not has_metaworld():
            item.add_marker(skip)


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """XLA maps memory for every program, and Linux lets a process have so many maps at most."""
    yield
    jax.clear_caches()


_small = functools.partial(TransformerConfig, width=8, num_heads=2, num_layers=2, hidden=12)
CORES = {
    "window": _small(context="window", window=3),
    "trial-whole": _small(context="trial", window=0),
    "trial-short": _small(context="trial", window=4),
    "trial-transitions": _small(context="trial", window=4, transitions=True),
    "trial-rotary": _small(context="trial", window=4, position="rotary"),
    "window-rotary": _small(context="window", window=3, position="rotary"),
    "window-transitions": _small(context="window", window=3, transitions=True),
    "pre-norm": _small(context="trial", window=0, normalization="pre", initializer="xavier"),
    "post-norm": _small(context="window", window=3, normalization="post", initializer="xavier"),
    "gtrxl": GTrXLConfig(memory=3, width=8, num_heads=2, num_layers=2, hidden=12),
    "snail": SNAILConfig(width=6, filters=3, key_size=4, value_size=3, num_layers=1),
    "gru": GRUConfig(width=8),
    "lstm": LSTMConfig(width=8),
}


def _shake(tree: Any, seed: int = 0) -> Any:
    """Weights far from their start, so that every token, position and bias shows in a feature."""
    noise = np.random.default_rng(seed)

    def shaken(leaf):
        if not eqx.is_inexact_array(leaf) or leaf.ndim == 0:
            return leaf
        size = 0.2 if leaf.ndim == 1 else leaf.shape[0] ** -0.5
        return jnp.asarray(size * noise.normal(size=leaf.shape), leaf.dtype)

    return jax.tree.map(shaken, tree)


@pytest.fixture(scope="session")
def shake() -> Callable:
    return _shake


@pytest.fixture(scope="session")
def core_configs() -> dict:
    return CORES


@pytest.fixture(scope="session")
def shaken_core() -> Callable:
    """`shaken_core(name, token_size, trial_length)`: a core with telling weights."""

    @functools.cache
    def build(name, token_size, trial_length):
        return _shake(CORES[name].build(token_size, trial_length, key=jax.random.key(1)))

    return build


@pytest.fixture(scope="session")
def small_agent() -> Callable:
    """`small_agent(core, chunk_length=..., any field of MemoryAgent or of PPO)`."""

    def build(core="window", **fields: Any):
        ppo = {k: fields.pop(k) for k in list(fields) if k in PPO.__dataclass_fields__}
        chosen: dict[str, Any] = {"head": HeadConfig((8,), last_gain=1.0), **fields}
        return MemoryAgent(core=CORES[core], algorithm=PPO(**ppo), **chosen)

    return build


@pytest.fixture
def in_double():
    """Double precision, where differences are exact enough."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def differences() -> Callable:
    """`differences(function, weights)`: the derivative along every weight, in the last axis."""

    def central(function, weights, size=1e-6):
        columns = []
        for i in range(len(weights)):
            step = np.zeros(len(weights))
            step[i] = size
            columns.append((function(weights + step) - function(weights - step)) / (2 * size))
        return np.stack(columns, axis=-1)

    return central


@pytest.fixture(scope="session")
def random_batch() -> Callable:
    """`random_batch(policies, num_episodes=2, credit=...)`: a policy of 19 weights, and a batch.

    It acted in 3 tasks of 4 steps on 2 lanes, some of them idle. `policies(policy, rollouts)` is
    who acts in a task's episodes before its last adaptation, and after it.
    """
    num_tasks, horizon, num_lanes, size = 3, 4, 2, 2

    def build(policies, num_episodes=2, credit=lambda rollouts: jnp.zeros(num_tasks)):
        noise = np.random.default_rng(0)
        head = HeadConfig((3,), 1.0, 1.0)
        policy = policy_head(size, Continuous(size), head, key=jax.random.key(0))
        shaken = lambda x: jnp.asarray(np.asarray(x, np.float64) + 0.3 * noise.normal(size=x.shape))
        policy = jax.tree.map(shaken, policy)
        shape = (num_tasks, num_episodes, horizon, num_lanes)
        rollouts = Rollouts(
            obs=jnp.asarray(noise.normal(size=(*shape, size))),
            action=jnp.asarray(noise.normal(size=(*shape, size))),
            log_prob=jnp.zeros(shape),
            reward=jnp.asarray(noise.normal(size=shape)),
            advantage=jnp.asarray(noise.normal(size=shape)),
            valid=jnp.asarray(noise.uniform(size=shape) < 0.8),
        )

        @jax.jit
        def act(policy, rollouts):  # as if nobody had adapted when it acted: ratios are not all one
            log_prob = policy(rollouts.obs).log_prob(rollouts.action)
            rollouts = replace(rollouts, log_prob=log_prob)
            before, after = jax.vmap(policies, in_axes=(None, 0))(policy, rollouts)
            return Batch(rollouts, before, after, credit(rollouts))

        return policy, act(policy, rollouts)

    return build


class Herd(AbstractAgent):
    """An agent that has nothing but a plan of its tasks."""

    plan: TaskPlan

    def init(self, spec, *, key):
        raise NotImplementedError

    def start(self, model, num_lanes):
        raise NotImplementedError

    def act(self, model, memory, timestep, *, explore, key):
        raise NotImplementedError

    def adapt(self, model, memory, episode):
        raise NotImplementedError

    def update(self, learner, trial, *, env_steps, key):
        raise NotImplementedError


@pytest.fixture(scope="session")
def herd() -> Callable:
    """`herd(lanes_per_task, num_tasks)`: an agent that can do nothing else."""
    return lambda lanes_per_task, num_tasks: Herd(TaskPlan(num_tasks, lanes_per_task))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Currents:
    """A task of `Drift`, all `[B]`: where it starts, where it is pulled, where it ends."""

    start: Any
    drift: Any
    wall: Any
    noise: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Adrift:
    tasks: Currents
    x: Any
    clock: Any


class Drift(AbstractEnvs):
    """Points pulled along a line by a hidden current; beyond its wall a lane's episode ends early.

    Driven by `HOST`, it is the same world in NumPy.
    """

    driver: Driver = eqx.field(static=True)
    spec: EnvSpec = eqx.field(static=True)

    @property
    def _library(self) -> Any:
        return np if self.driver is HOST else jnp

    def sample_tasks(self, split, num_tasks, *, key):
        self.spec.check_split(split)
        draw = self._library.asarray(jax.random.uniform(key, (3, num_tasks)))
        return Currents(draw[0] - 0.5, draw[1] - 0.5, 0.5 + draw[2], 0.1 * draw[0])

    def _see(self, x, clock):
        library = self._library
        return library.stack([x, 0.1 * clock.astype(library.float32)], axis=-1)

    def reset(self, tasks, *, key):
        library = self._library
        noise = library.asarray(jax.vmap(jax.random.normal)(key))
        x = tasks.start + tasks.noise * noise
        clock = library.zeros(x.shape, library.int32)
        return Adrift(tasks, x, clock), self._see(x, clock)

    def step(self, env_state, action):
        library, tasks = self._library, env_state.tasks
        action = library.asarray(action)
        x = env_state.x + tasks.drift + 0.04 * action[:, 0] - 0.02 * action[:, 1]
        clock = env_state.clock + 1
        terminated = library.abs(x) > tasks.wall
        truncated = ~terminated & (clock >= self.spec.horizon)
        outcome = Outcome(1.0 - library.abs(x), terminated, truncated, self._see(x, clock))
        return Adrift(tasks, x, clock), outcome

    def view(self, env_state):
        return env_state.x


@pytest.fixture(scope="session")
def drift() -> Callable:
    """`drift(host=False, horizon=6, num_episodes=2)`: the worlds, as JAX or as their twin."""

    def make(host=False, horizon=6, num_episodes=2):
        spec = EnvSpec("drift", "test", 2, Continuous(2), horizon, num_episodes, ends_early=True)
        return Drift(HOST if host else Driver(jax.lax.scan, eqx.filter_jit), spec)

    return make


@pytest.fixture(scope="session")
def currents() -> Callable:
    """`currents(lanes=[0, 1, 2, 3], noise=0.0)`: lanes 1 and 2 end early, 0 and 3 by the clock."""

    def make(lanes=(0, 1, 2, 3), noise=0.0, **changes):
        fields = {
            "start": [0.0, 0.1, -0.2, 0.3],
            "drift": [0.0, 0.5, -0.3, 0.05],
            "wall": [9.0, 1.2, 0.6, 9.0],
            "noise": [noise] * 4,
        } | changes
        return Currents(**{k: np.asarray(v, np.float32)[list(lanes)] for k, v in fields.items()})

    return make
