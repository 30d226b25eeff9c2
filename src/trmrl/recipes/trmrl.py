"""TrMRL's experiments: the published settings, and ours."""

from typing import Any

from trmrl.agents.memory import MemoryAgent
from trmrl.config import Config
from trmrl.envs import make
from trmrl.learners.descent import OptimizerConfig
from trmrl.learners.ppo import PPO, Separate
from trmrl.nets.heads import HeadConfig
from trmrl.nets.transformer import TransformerConfig
from trmrl.recipes._default import chunk_length_of, default_config, setting_of
from trmrl.types import TrmrlError, replace

PAPER_EPOCH = 8_000  # environment steps: 20 tasks, 2 episodes, 200 steps


def paper(env: str, env_steps: int | None = None) -> Config:
    """Return the setting of the released commands (Melo, 2022), which the paper refers to.

    Differences that remain: a pass is cut into 32 minibatches of 250 rows instead of 31 of 256 and
    one of 64; the schedule counts true epochs (the released counter runs 2.6 % ahead); where ants
    fall, epochs are shorter, since the released sampler then adds trials of the first tasks, and
    rewards of the next episode are discounted by the steps left of this one, not by one step.
    """
    settings = {
        "half-cheetah-vel": _paper_velocity,
        "half-cheetah-dir": lambda: _paper_direction(0.9, 1.0, (100, 3_700)),
        "ant-dir-radian": lambda: _paper_direction(0.92, 0.01, (500, 3_500)),
    }
    if env not in settings:
        raise TrmrlError(f"trmrl/paper has no setting for {env}, only for {', '.join(settings)}")
    agent, budget = settings[env]()
    return Config(
        env=env,
        agent_name="trmrl",
        recipe="paper",
        agent=agent,
        env_steps=budget if env_steps is None else env_steps,
        num_lanes=20,
        eval_every=5 * PAPER_EPOCH,
        eval_tasks=30,
    )


def _paper_velocity() -> tuple[MemoryAgent, int]:
    decay = {"decay_start": 100 * PAPER_EPOCH, "decay_end": 750 * PAPER_EPOCH, "final_factor": 0.1}
    agent = _paper_agent(
        head=HeadConfig(last_gain=1.0, init_std=0.2),
        value_input="token",
        gamma=0.9,
        clip=0.1,
        policy_optimizer=_paper_optimizer(3e-5, **decay),
        value_optimizer=_paper_optimizer(2.5e-4),
    )
    return agent, 2_500 * PAPER_EPOCH


def _paper_direction(
    gamma: float, last_gain: float, decay_epochs: tuple[int, int]
) -> tuple[MemoryAgent, int]:
    first, last = decay_epochs
    decay = {
        "decay_start": first * PAPER_EPOCH,
        "decay_end": last * PAPER_EPOCH,
        "final_factor": 1e-4,
    }
    agent = _paper_agent(
        head=HeadConfig(last_gain=last_gain, init_std=0.5),
        value_input="feature",
        gamma=gamma,
        clip=0.2,
        policy_optimizer=_paper_optimizer(3e-5, **decay),
        value_optimizer=_paper_optimizer(3e-5, **decay),
    )
    return agent, 5_000 * PAPER_EPOCH


def _paper_optimizer(learning_rate: float, **decay: int | float) -> OptimizerConfig:
    return OptimizerConfig(
        learning_rate=learning_rate,
        decay="exponential",
        weight_decay=0.01,
        max_grad_norm=0.0,
        **decay,  # pyright: ignore[reportArgumentType]
    )


def _paper_agent(
    *,
    head: HeadConfig,
    value_input: str,
    gamma: float,
    clip: float,
    policy_optimizer: OptimizerConfig,
    value_optimizer: OptimizerConfig,
) -> MemoryAgent:
    """Return what the released MuJoCo commands share."""
    return MemoryAgent(
        core=TransformerConfig("window", 5, width=128, num_heads=16, num_layers=4, hidden=512),
        head=head,
        memory_scope="episode",
        value_input=value_input,  # pyright: ignore[reportArgumentType]
        normalize_obs=False,
        algorithm=PPO(
            gamma=gamma,
            gae_lambda=0.8,
            clip=clip,
            num_passes=10,
            minibatch_size=256,
            chunk_length=1,
            normalize_reward=False,
            normalize_advantage=False,
            value=Separate(value_optimizer),
            value_error="gaussian",
            value_target="return",
            credit_across_episodes=True,
            bootstrap=False,
            optimizer=policy_optimizer,
        ),
    )


def default(env: str, env_steps: int | None = None) -> Config:
    """Return our setting, tuned to learn fast on two cores."""
    return ours("trmrl", env, env_steps)


def ours(agent_name: str, env: str, env_steps: int | None, **core_fields: Any) -> Config:
    """Return our setting under a name, with some fields of its `TransformerConfig` changed."""
    spec = make(env).spec
    core = replace(setting_of(spec).transformer, **core_fields)
    # A window is encoded afresh at every step, so that its rows need no order in a minibatch.
    chunk_length = 1 if core.context == "window" else chunk_length_of(spec)
    return default_config(env, agent_name, core, chunk_length=chunk_length, env_steps=env_steps)
