"""What our recipes share: everything but the core, per family of worlds.

Lives here: the numbers we tuned, on small worlds first. Does not live here: published settings.
"""

from dataclasses import dataclass

from trmrl.agents._sgd import OptimizerConfig
from trmrl.agents.memory_ppo import MemoryPPO, PPOConfig
from trmrl.config import Config
from trmrl.envs import make
from trmrl.nets._core import AbstractCoreConfig
from trmrl.nets.heads import HeadConfig
from trmrl.types import Discrete, EnvSpec, replace

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


@dataclass(frozen=True)
class Setting:
    """What differs between families of worlds."""

    head: HeadConfig
    ppo: PPOConfig
    num_lanes: int
    env_steps: int
    eval_every: int
    target_kl: float = 0.0


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
    spec = make(env).spec
    setting = _small(spec) if is_small(env) else _locomotion(spec)
    budget = setting.env_steps if env_steps is None else env_steps
    agent = MemoryPPO(
        core=core,
        head=setting.head,
        normalize_obs=not isinstance(spec.action_space, Discrete),
        ppo=replace(setting.ppo, chunk_length=chunk_length),
        optimizer=OptimizerConfig(
            learning_rate, decay_end=budget, final_factor=0.05, target_kl=setting.target_kl
        ),
    )
    return Config(
        env,
        agent_name,
        "default",
        agent,
        env_steps=budget,
        num_lanes=setting.num_lanes,
        eval_every=setting.eval_every,
    )


def _small(spec: EnvSpec) -> Setting:
    trial_length = spec.num_episodes * spec.horizon
    noisy = spec.name.startswith(NOISY)
    rows = 4 * SMALL_ROWS if noisy else SMALL_ROWS  # clipped together, noise undoes less
    budget = SMALL_TRIALS * trial_length
    return Setting(
        head=HeadConfig(),
        ppo=PPOConfig(
            gamma=0.99,
            gae_lambda=0.7 if noisy else 0.9,
            num_passes=1,
            minibatch_size=SMALL_ROWS // 4,
            entropy_coef=0.06,  # without it long trials are played greedily
            entropy_final_factor=0.0,
            prediction_coef=2.0,  # memory forms on what noise hides from a policy's gradient
            stop_kl=0.02,  # and a smaller step next time, or one burst undoes a room's policy
            bootstrap=False,
        ),
        num_lanes=max(rows // trial_length, 16),
        env_steps=budget,
        eval_every=budget // 20,
        target_kl=0.01,
    )


def _locomotion(spec: EnvSpec) -> Setting:
    return Setting(
        head=HeadConfig(init_std=0.2),
        ppo=PPOConfig(
            gamma=0.95,
            gae_lambda=0.9,
            num_passes=4,
            minibatch_size=1_280,
            value_coef=2.0,
            entropy_coef=0.005,  # without it some gaits fall beyond the speeds trained for
        ),
        num_lanes=32,
        env_steps=LOCOMOTION_STEPS.get(spec.name.removesuffix("+task"), 3_000_000),
        eval_every=300_000,
    )
