"""What our recipes share: everything but the core, per family of worlds.

Lives here: the numbers we tuned, on small worlds first. Does not live here: published settings.
"""

from trmrl.agents._sgd import OptimizerConfig
from trmrl.agents.memory_ppo import MemoryPPO, PPOConfig
from trmrl.config import Config
from trmrl.envs import make
from trmrl.nets._core import AbstractCoreConfig
from trmrl.nets.heads import HeadConfig
from trmrl.types import Discrete

LOCOMOTION_STEPS = {"half-cheetah-dir": 4_000_000}
# Worlds that are cheap to step, and pay for remembering everything since the trial began.
SMALL = "bandit-", "tabular-", "grid-navi", "dark-", "point-robot"
NOISY = "tabular-"  # rewards whose noise outweighs what an action is worth
SMALL_TRIALS = 400_000  # a budget in trials
# Rows lived between updates, and gone through once: new ones cost less than another pass over old
# ones, and the caches of 64 trials of 100 steps stay in a processor's own.
SMALL_ROWS = 6_400


def is_small(env: str) -> bool:
    """Return whether an env is one whose trials our agents see whole."""
    return env.startswith(SMALL)


def default_config(
    env: str,
    agent_name: str,
    core: AbstractCoreConfig,
    *,
    chunk_length: int,
    learning_rate: float = 1e-3,
    env_steps: int | None,
) -> Config:
    """Return our setting for an env, with the given core; `chunk_length` as in `PPOConfig`."""
    setting = _small if is_small(env) else _locomotion
    return setting(env, agent_name, core, chunk_length, learning_rate, env_steps)


def _small(
    env: str,
    agent_name: str,
    core: AbstractCoreConfig,
    chunk_length: int,
    learning_rate: float,
    env_steps: int | None,
) -> Config:
    spec = make(env).spec
    trial_length = spec.num_episodes * spec.horizon
    noisy = env.startswith(NOISY)
    rows = 4 * SMALL_ROWS if noisy else SMALL_ROWS  # clipped together, noise undoes less
    num_lanes = max(rows // trial_length, 16)
    usual = SMALL_TRIALS * trial_length
    budget = usual if env_steps is None else env_steps
    agent = MemoryPPO(
        core=core,
        normalize_obs=not isinstance(spec.action_space, Discrete),
        ppo=PPOConfig(
            gamma=0.99,
            gae_lambda=0.7 if noisy else 0.9,
            num_passes=1,
            minibatch_size=SMALL_ROWS // 4,
            chunk_length=chunk_length,
            entropy_coef=0.01 if noisy else 0.06,  # without it long trials are played greedily
            entropy_final_factor=0.0,
            stop_kl=0.02,  # and a smaller step next time, or one burst undoes a room's policy
            bootstrap=False,
        ),
        optimizer=OptimizerConfig(
            learning_rate, decay_end=budget, final_factor=0.05, target_kl=0.01
        ),
    )
    return Config(
        env,
        agent_name,
        "default",
        agent,
        env_steps=budget,
        num_lanes=num_lanes,
        eval_every=usual // 20,
    )


def _locomotion(
    env: str,
    agent_name: str,
    core: AbstractCoreConfig,
    chunk_length: int,
    learning_rate: float,
    env_steps: int | None,
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
            entropy_coef=0.005,  # without it some gaits fall beyond the speeds trained for
        ),
        optimizer=OptimizerConfig(learning_rate, decay_end=budget, final_factor=0.05),
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
