"""What our recipes share: everything but the core, per family of worlds.

The numbers are ours, tuned on small worlds first; published settings stand in each agent's recipes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from trmrl.agents.memory import MemoryAgent
from trmrl.config import Config
from trmrl.envs import make
from trmrl.learners.descent import OptimizerConfig
from trmrl.learners.objectives import Entropy, Objectives, Prediction
from trmrl.learners.ppo import PPO, Joint
from trmrl.nets.core import AbstractCoreConfig
from trmrl.nets.heads import HeadConfig
from trmrl.nets.transformer import TransformerConfig
from trmrl.types import Discrete, EnvSpec, base_name, replace

LOCOMOTION_STEPS = {"half-cheetah-dir": 4_000_000}
# A fall costs the rest of its episode, more than the 20 steps that 0.95 counts. These fall at once
# until they have learned not to; ants seldom do, and learn more slowly with the longer horizon.
LOCOMOTION_GAMMA = {"hopper-rand-params": 0.99, "humanoid-dir": 0.99, "walker-rand-params": 0.99}
SMALL_TRIALS = 400_000  # a budget in trials
# Rows rolled out between updates, and gone through once: new ones cost less than another pass over
# old ones, and the caches of 64 trials of 100 steps stay in a processor's own.
SMALL_ROWS = 6_400
MAX_CHUNK = 50  # steps between truncations of the gradient, where a trial has hundreds
SHORT_TRIAL = 200  # steps that are remembered whole, in worlds of a family without a setting


@dataclass(frozen=True)
class Setting:
    """What differs between families of worlds, for agents that learn by PPO."""

    transformer: TransformerConfig  # TrMRL's; with a window of 0 other agents remember all, too
    head: HeadConfig
    algorithm: PPO
    num_lanes: int
    env_steps: int
    eval_every: int


def default_config(
    env: str,
    agent_name: str,
    core: AbstractCoreConfig,
    *,
    chunk_length: int,
    learning_rate: float = 1e-3,
    env_steps: int | None,
) -> Config:
    """Return our setting for an env, with the given core; `chunk_length` as in `PPO`."""
    spec = make(env).spec
    setting = setting_of(spec)
    budget = setting.env_steps if env_steps is None else env_steps
    agent = MemoryAgent(
        core=core,
        head=setting.head,
        normalize_obs=not isinstance(spec.action_space, Discrete),
        algorithm=replace(
            setting.algorithm,
            chunk_length=chunk_length,
            optimizer=OptimizerConfig(learning_rate, decay_end=budget, final_factor=0.05),
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


def setting_of(spec: EnvSpec) -> Setting:
    """Return the setting of a world's family.

    A family without one has that of the point robots where a trial is short enough to be
    remembered whole, else that of locomotion.
    """
    usual = "point" if spec.trial_length <= SHORT_TRIAL else "locomotion"
    return SETTINGS.get(spec.family, SETTINGS[usual])(spec)


def chunk_length_of(spec: EnvSpec) -> int:
    """Return the steps that are unrolled together: 0, the whole trial, where all is remembered.

    Else the longest part of a trial, of 50 steps at most; it begins with the memory stored there.
    """
    if setting_of(spec).transformer.window == 0:
        return 0
    return max(c for c in range(1, MAX_CHUNK + 1) if spec.trial_length % c == 0)


def _transformer(
    context: Literal["window", "trial"], window: int, **fields: Any
) -> TransformerConfig:
    return TransformerConfig(
        context, window, width=64, num_heads=4, num_layers=2, hidden=256, **fields
    )


def _small(spec: EnvSpec) -> Setting:
    """Return the setting of worlds that are cheap to step, and pay for remembering everything."""
    budget = SMALL_TRIALS * spec.trial_length
    return Setting(
        # Where all of a short trial is remembered, an absolute position counts its steps.
        transformer=_transformer("trial", 0, embedding_gain=8.0, transitions=True),
        head=HeadConfig(),
        algorithm=PPO(
            gamma=0.99,
            gae_lambda=0.9,
            num_passes=1,
            minibatch_size=SMALL_ROWS // 4,
            stop_kl=0.02,  # and a smaller step next time, or one burst undoes a grid's policy
            target_kl=0.01,
            bootstrap=False,
            objectives=Objectives(
                # Without a bonus long trials are played greedily.
                entropy=Entropy(0.06, final_factor=0.0),
                # Memory forms on what noise hides from a policy's gradient.
                prediction=Prediction(2.0),
            ),
        ),
        num_lanes=max(SMALL_ROWS // spec.trial_length, 16),
        env_steps=budget,
        eval_every=budget // 20,
    )


def _noisy(spec: EnvSpec) -> Setting:
    """Return the same where the noise of rewards outweighs what an action is worth."""
    small = _small(spec)
    return replace(
        small,
        algorithm=replace(small.algorithm, gae_lambda=0.7),
        # Four times the rows: clipped together, noise undoes less.
        num_lanes=max(4 * SMALL_ROWS // spec.trial_length, 16),
    )


def _locomotion(spec: EnvSpec) -> Setting:
    return Setting(
        # In a long trial the code of a step's number would drown the embedding.
        transformer=_transformer("trial", 16, position="rotary"),
        head=HeadConfig(init_std=0.2),
        algorithm=PPO(
            gamma=LOCOMOTION_GAMMA.get(base_name(spec.name), 0.95),
            gae_lambda=0.9,
            num_passes=4,
            minibatch_size=1_280,
            value=Joint(2.0),
            # Without a bonus some gaits fall beyond the speeds trained for.
            objectives=Objectives(entropy=Entropy(0.005)),
        ),
        num_lanes=32,
        env_steps=LOCOMOTION_STEPS.get(base_name(spec.name), 3_000_000),
        eval_every=300_000,
    )


def _manipulation(spec: EnvSpec) -> Setting:
    """Return the setting of robots that must reach a place before most rewards begin.

    Published beside it (the commands released with TrMRL): 10 episodes of 500 steps, 25 tasks,
    discount 0.9, lambda 0.95, deviation 1.0, 625 million steps.
    """
    usual = _locomotion(spec)
    return replace(
        usual,
        transformer=_transformer("window", 5),
        head=replace(usual.head, init_std=0.5),  # 0.2 learned slowly
        env_steps=10_000_000,
        eval_every=1_000_000,
    )


SETTINGS: dict[str, Callable[[EnvSpec], Setting]] = {
    "bandit": _small,
    "tabular": _noisy,
    "grid": _small,
    "point": _small,
    "rules": _small,
    "locomotion": _locomotion,
    "manipulation": _manipulation,
}
