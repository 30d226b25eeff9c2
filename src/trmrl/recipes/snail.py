"""SNAIL (Mishra et al., 2018): temporal convolutions and attention over the trial, by PPO."""

from trmrl.config import Config
from trmrl.nets.snail import SNAILConfig
from trmrl.recipes._default import default_config


def default(env: str, env_steps: int | None = None) -> Config:
    """Return our setting: TrMRL's, with SNAIL for a core, which learns from whole trials."""
    core = SNAILConfig(width=32, filters=16, key_size=32, value_size=16, num_layers=2)
    return default_config(env, "snail", core, chunk_length=0, env_steps=env_steps)
