"""VariBAD (Zintgraf et al., 2020), its belief on TrMRL's transformer, and HyperX."""

from trmrl.agents.memory import MemoryAgent
from trmrl.config import Config
from trmrl.envs import make
from trmrl.learners.objectives import ELBO, Novelty, Objectives, Prediction
from trmrl.learners.stored import Replayed
from trmrl.nets.readout import BeliefConfig
from trmrl.recipes import rl2, trmrl
from trmrl.types import replace

STORED_ROWS = 100_000  # of trials that beliefs are trained on


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


def hyperx(env: str, env_steps: int | None = None) -> Config:
    """Return VariBAD's setting with both bonuses of HyperX (Zintgraf et al., 2021)."""
    config = default(env, env_steps)
    agent: MemoryAgent = config.agent  # pyright: ignore[reportAssignmentType]
    replayed = agent.algorithm.replayed
    elbo = replace(replayed.objectives.elbo, bonus_coef=1.0)
    objectives = replace(replayed.objectives, elbo=elbo, novelty=Novelty(coef=1.0, bonus_coef=1.0))
    algorithm = replace(agent.algorithm, replayed=replace(replayed, objectives=objectives))
    return replace(config, agent_name="hyperx", agent=replace(agent, algorithm=algorithm))


def _replayed(env: str) -> Replayed:
    """Return what trains a belief; the rows that are kept are about as many in every world."""
    spec = make(env).spec
    kind = "bernoulli" if spec.family == "grid" else "gaussian"
    objectives = Objectives(elbo=ELBO(coef=1.0, reward_kind=kind))
    return Replayed(objectives=objectives, capacity=max(STORED_ROWS // spec.trial_length, 64))
