"""What T-Fixup stands in for: TrMRL's own setting, with another normalization or first weights."""

from trmrl.config import Config
from trmrl.recipes.trmrl import ours


def pre_norm(env: str, env_steps: int | None = None) -> Config:
    """Return TrMRL with LayerNorm before each sublayer, and plain Xavier weights."""
    return ours("pre-norm", env, env_steps, normalization="pre", initializer="xavier")


def post_norm(env: str, env_steps: int | None = None) -> Config:
    """Return TrMRL with LayerNorm after each sublayer (as first published), and Xavier weights."""
    return ours("post-norm", env, env_steps, normalization="post", initializer="xavier")


def xavier(env: str, env_steps: int | None = None) -> Config:
    """Return TrMRL without LayerNorm, as it is, and without T-Fixup: plain Xavier weights."""
    return ours("xavier", env, env_steps, normalization="none", initializer="xavier")
