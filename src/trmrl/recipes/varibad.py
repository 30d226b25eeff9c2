"""VariBAD (Zintgraf et al., 2020), and its belief on TrMRL's transformer."""

from trmrl.agents.memory import MemoryAgent
from trmrl.config import Config
from trmrl.envs import make
from trmrl.learners.objectives import ELBO, Objectives, Prediction
from trmrl.learners.stored import Replayed
from trmrl.nets.readout import BeliefConfig
from trmrl.recipes import rl2, trmrl
from trmrl.types import replace


def default(env: str, env_steps: int | None = None) -> Config:
    """Return our setting: RL²'s, where the policy reads a belief that the bound alone trains."""
    config = rl2.default(env, env_steps)
    agent: MemoryAgent = config.agent  # pyright: ignore[reportAssignmentType]
    # Predictions would train the core, which is the bound's alone.
    objectives = replace(agent.algorithm.objectives, prediction=Prediction())
    algorithm = replace(agent.algorithm, objectives=objectives, replayed=_replayed(env))
    agent = replace(agent, readout=BeliefConfig(gradient="detached"), algorithm=algorithm)
    return replace(config, agent_name="varibad", agent=agent)


def transformer(env: str, env_steps: int | None = None) -> Config:
    """Return TrMRL's setting with a belief beside the feature."""
    config = trmrl.default(env, env_steps)
    agent: MemoryAgent = config.agent  # pyright: ignore[reportAssignmentType]
    algorithm = replace(agent.algorithm, replayed=_replayed(env))
    agent = replace(agent, readout=BeliefConfig(gradient="split"), algorithm=algorithm)
    return replace(config, agent_name="trmrl-belief", agent=agent)


def _replayed(env: str) -> Replayed:
    kind = "bernoulli" if make(env).spec.family == "grid" else "gaussian"
    elbo = ELBO(coef=1.0, reward_kind=kind)
    return Replayed(objectives=Objectives(elbo=elbo))
