"""What our recipes share: everything but the core, per family of worlds.

Lives here: the numbers we tuned, on small worlds first. Does not live here: published settings.
"""

from trmrl.agents._sgd import OptimizerConfig
from trmrl.agents.memory_ppo import MemoryPPO, PPOConfig
from trmrl.config import Config
from trmrl.nets._core import AbstractCoreConfig
from trmrl.nets.heads import HeadConfig

LOCOMOTION_STEPS = {"half-cheetah-dir": 4_000_000}


def default_config(
    env: str,
    agent_name: str,
    core: AbstractCoreConfig,
    *,
    chunk_length: int,
    env_steps: int | None,
) -> Config:
    """Return our setting for an env, with the given core; `chunk_length` as in `PPOConfig`."""
    family = _bandit if env.startswith("bandit-") else _locomotion
    return family(env, agent_name, core, chunk_length, env_steps)


def _bandit(
    env: str, agent_name: str, core: AbstractCoreConfig, chunk_length: int, env_steps: int | None
) -> Config:
    budget = 4_000_000 if env_steps is None else env_steps
    agent = MemoryPPO(
        core=core,
        normalize_obs=False,
        ppo=PPOConfig(
            gamma=0.99,
            gae_lambda=0.95,
            num_passes=4,
            minibatch_size=2_560,
            chunk_length=chunk_length,
            bootstrap=False,
        ),
        optimizer=OptimizerConfig(learning_rate=1e-3, decay_end=budget, final_factor=0.05),
    )
    return Config(env, agent_name, "default", agent, env_steps=budget, num_lanes=1_024)


def _locomotion(
    env: str, agent_name: str, core: AbstractCoreConfig, chunk_length: int, env_steps: int | None
) -> Config:
    usual = LOCOMOTION_STEPS.get(env.removesuffix("+task"), 3_000_000)
    budget = usual if env_steps is None else env_steps
    agent = MemoryPPO(
        core=core,
        head=HeadConfig(init_std=0.2),
        ppo=PPOConfig(
            gamma=0.95,
            gae_lambda=0.9,
            num_passes=4,
            minibatch_size=1_280,
            chunk_length=chunk_length,
            value_coef=2.0,
        ),
        optimizer=OptimizerConfig(learning_rate=1e-3, decay_end=budget, final_factor=0.05),
    )
    return Config(
        env,
        agent_name,
        "default",
        agent,
        env_steps=budget,
        num_lanes=32,
        eval_every=300_000,
    )
