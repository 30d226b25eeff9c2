"""RL² (Duan et al., 2016): a recurrent network over the trial, learning by PPO."""

from trmrl.agents.memory import MemoryAgent
from trmrl.config import Config
from trmrl.envs import make
from trmrl.learners.descent import OptimizerConfig
from trmrl.learners.ppo import PPO, Separate
from trmrl.nets.core import AbstractCoreConfig
from trmrl.nets.gru import GRUConfig
from trmrl.nets.heads import HeadConfig
from trmrl.nets.lstm import LSTMConfig
from trmrl.recipes._default import chunk_length_of, default_config
from trmrl.types import TrmrlError, replace

PROMP_EPOCH = 40_000  # environment steps: 100 tasks, 2 episodes, 200 steps


def default(env: str, env_steps: int | None = None) -> Config:
    """Return our setting: TrMRL's, with a GRU for a core."""
    return _default(env, "rl2", GRUConfig(width=64), env_steps)


def lstm(env: str, env_steps: int | None = None) -> Config:
    """Return our setting with an LSTM instead."""
    return _default(env, "rl2-lstm", LSTMConfig(width=64), env_steps)


def _default(env: str, agent_name: str, core: AbstractCoreConfig, env_steps: int | None) -> Config:
    """Return our setting for a recurrent core: larger steps where trials are unrolled whole."""
    chunk_length = chunk_length_of(make(env).spec)
    return default_config(
        env,
        agent_name,
        core,
        chunk_length=chunk_length,
        learning_rate=1e-3 if chunk_length else 2e-3,
        env_steps=env_steps,
    )


def promp(env: str, env_steps: int | None = None) -> Config:
    """Return the RL² that PEARL and TrMRL were compared with, of the ProMP code (`full_code`).

    It is a weak one: memory crosses the episodes of a task, credit does not, so nothing pays for
    exploring. Differences that remain: its baseline is refitted to features of observation and
    time by least squares, ours is linear in the token and takes Adam's steps; its gradients are cut
    every 32 steps, ours every 40, which divides a trial; its LSTM reads the token without an
    embedding; rewards are scaled, which its standardized advantages do not feel.
    """
    if env not in ("half-cheetah-vel", "half-cheetah-dir"):
        raise TrmrlError(
            f"rl2/promp has no setting for {env}, only for half-cheetah-vel, half-cheetah-dir"
        )
    steps = OptimizerConfig(learning_rate=1e-3, max_grad_norm=0.0)
    agent = MemoryAgent(
        core=LSTMConfig(width=64),
        head=HeadConfig(hidden=(), init_std=0.1),  # 1.0 there, where actions are worth a tenth
        value_input="token",
        normalize_obs=False,
        algorithm=PPO(
            gamma=0.99,
            gae_lambda=1.0,
            clip=0.2,
            num_passes=5,
            minibatch_size=PROMP_EPOCH,  # one step a pass
            chunk_length=40,
            value=Separate(replace(steps, learning_rate=1e-2)),
            value_target="return",
            credit_across_episodes=False,
            bootstrap=False,
            optimizer=steps,
        ),
    )
    return Config(
        env=env,
        agent_name="rl2",
        recipe="promp",
        agent=agent,
        env_steps=501 * PROMP_EPOCH if env_steps is None else env_steps,
        num_lanes=100,
        eval_every=10 * PROMP_EPOCH,
    )
