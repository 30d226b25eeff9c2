"""RL² (Duan et al., 2016): a recurrent network over the trial, learning by PPO."""

from trmrl.config import Config
from trmrl.nets.gru import GRUConfig
from trmrl.recipes._default import default_config


def default(env: str, env_steps: int | None = None) -> Config:
    """Return our setting: TrMRL's, with a GRU for a core, unrolled over whole trials."""
    return default_config(env, "rl2", GRUConfig(width=64), chunk_length=0, env_steps=env_steps)
