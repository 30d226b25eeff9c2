"""After its first iteration an agent compiles nothing again: shapes and types stay as they were."""

import jax
import jax.monitoring
import pytest

from trmrl.envs import make
from trmrl.train import build_iteration

LOWERED = []


# Fires for every program traced and lowered, whether or not its compilation is cached. Listeners
# cannot be taken back, so there is one for the whole module.
def note(event: str, duration_secs: float, **kwargs: str | int) -> None:
    if "jaxpr_to_mlir_module" in event:
        LOWERED.append((event, duration_secs, kwargs))


jax.monitoring.register_event_duration_secs_listener(note)


@pytest.mark.parametrize(
    ("env", "core", "chunk_length"),
    [
        ("bandit-n4-k2", "trial-whole", 0),
        ("half-cheetah-vel", "window", 1),
    ],
)
def test_nothing_compiles_after_the_first_iteration(small_agent, env, core, chunk_length):
    agent, envs = small_agent(core, chunk_length=chunk_length, num_passes=1), make(env)
    train_state = agent.init(envs.spec, key=jax.random.key(0))
    iterate = build_iteration(agent, envs, 2)
    before = len(LOWERED)
    train_state, _ = iterate(train_state)
    first = len(LOWERED)
    assert first > before  # the counter counts
    for _ in range(2):
        train_state, metrics = iterate(train_state)
        jax.device_get(metrics)
    assert len(LOWERED) == first
