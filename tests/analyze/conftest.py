"""Small agents with telling weights in small worlds."""

import dataclasses
from collections.abc import Callable

import jax
import pytest

from trmrl.agents.memory import MemoryAgent
from trmrl.analyze.subject import Subject
from trmrl.envs.base import JAX
from trmrl.nets.heads import HeadConfig


@pytest.fixture(scope="session")
def subject_of(core_configs, shake) -> Callable:
    """`subject_of(core, envs, num_tasks)`: an untrained agent whose weights all show."""

    def build(core, envs, num_tasks=6, **fields):
        agent = MemoryAgent(core=core_configs[core], head=HeadConfig((8,), last_gain=1.0))
        model = agent.init(envs.spec, key=jax.random.key(0)).model
        model = dataclasses.replace(model, network=shake(model.network))
        return Subject(agent, model, envs, num_tasks, **fields)

    return build


@pytest.fixture(scope="session", name="worlds")
def worlds_fixture(drift) -> Callable:
    """`worlds(host=False, ...)`: those of `drift`, compiled as JAX worlds are."""

    def make(host=False, **fields):
        envs = drift(host=host, **fields)
        return envs if host else type(envs)(JAX, envs.spec)

    return make
