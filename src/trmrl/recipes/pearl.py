"""PEARL (Rakelly et al., 2019): a posterior over tasks and soft actor-critic."""

from trmrl.agents.pearl import PEARL
from trmrl.config import Config
from trmrl.envs import make
from trmrl.recipes._default import is_small
from trmrl.types import Continuous, TrmrlError

NUM_EPISODES, NUM_LANES = 5, 10
# Gradient steps for an environment step, and the usual budget of environment steps.
SMALL = 0.5, 100_000
LOCOMOTION = 0.05, 1_000_000


def default(env: str, env_steps: int | None = None) -> Config:
    """Return our setting: smaller networks and batches than published, for two cores."""
    spec = make(env).spec
    if not isinstance(spec.action_space, Continuous):
        raise TrmrlError(f"pearl needs continuous actions, {env} has choices")
    ratio, usual = SMALL if is_small(env) else LOCOMOTION
    lived = NUM_LANES * NUM_EPISODES * spec.horizon
    agent = PEARL(
        encoder_hidden=(128, 128),
        hidden=(128, 128),
        num_steps=round(ratio * lived),
        batch_size=64,
        learning_rate=1e-3,
    )
    return Config(
        env,
        "pearl",
        "default",
        agent,
        env_steps=usual if env_steps is None else env_steps,
        num_lanes=NUM_LANES,
        num_episodes=NUM_EPISODES,
        eval_every=usual // 20,
    )
