"""GTrXL (Parisotto et al., 2020): a gated transformer-XL over the trial, learning by PPO."""

from trmrl.config import Config
from trmrl.nets.gtrxl import GTrXLConfig
from trmrl.recipes._default import default_config


def default(env: str, env_steps: int | None = None) -> Config:
    """Return our setting: TrMRL's, in its sizes, with a memory of the whole trial."""
    core = GTrXLConfig(memory=0, width=64, num_heads=4, num_layers=2, hidden=256)
    return default_config(env, "gtrxl", core, chunk_length=0, env_steps=env_steps)
