"""VariBAD (Zintgraf et al., 2020), its belief on TrMRL's transformer, and HyperX."""

from dataclasses import dataclass, field
from typing import Any, Literal

from trmrl.agents.memory import MemoryAgent
from trmrl.config import Config
from trmrl.envs import make
from trmrl.learners.descent import OptimizerConfig
from trmrl.learners.objectives import ELBO, Entropy, Novelty, Objectives, Prediction
from trmrl.learners.ppo import PPO, Joint
from trmrl.learners.stored import Replayed
from trmrl.nets.gru import GRUConfig
from trmrl.nets.heads import HeadConfig
from trmrl.nets.readout import BeliefConfig
from trmrl.recipes import rl2, trmrl
from trmrl.types import TrmrlError, base_name, replace

STORED_ROWS = 100_000  # of trials that beliefs are trained on


@dataclass(frozen=True)
class BeliefSetting:
    """What differs between worlds, for agents with a belief; None: as without one."""

    reward_kind: Literal["gaussian", "bernoulli", "symlog"] = "gaussian"  # what a belief decodes
    latent: int = BeliefConfig().latent
    entropy: float | None = None  # weight of the policy's entropy, which falls to zero
    novelty: float = 1.0  # weight of HyperX's bonus
    credit: dict[str, Any] = field(default_factory=dict)  # fields of `PPO`
    env_steps: int | None = None


# By world, or by family. Worlds that neither names have no difference.
BELIEF_SETTINGS = {
    "grid": BeliefSetting("bernoulli"),
    # A belief does not count steps. If the clock ended rewards, its end would be a surprise,
    # credited to the places where trials end: agents ran into corners. (Rooms are better without:
    # docs/results/beliefs.md.) And more entropy widens policies beyond all actions.
    "point": BeliefSetting(entropy=0.003, credit={"bootstrap": True}),
    # Its goals pay 1, 10 and 100. Discounts, latent, entropy and weight as published with HyperX.
    "multi-stage-rooms": BeliefSetting(
        "symlog",
        latent=10,
        entropy=0.1,
        novelty=10.0,
        credit={"gamma": 0.98, "gae_lambda": 0.95},
        env_steps=60_000_000,
    ),
}


def belief_setting_of(env: str) -> BeliefSetting:
    """Return the setting of a world, else of its family."""
    return BELIEF_SETTINGS.get(base_name(env)) or BELIEF_SETTINGS.get(
        make(env).spec.family, BeliefSetting()
    )


def default(env: str, env_steps: int | None = None) -> Config:
    """Return our setting: RL²'s, where the policy reads a belief that the bound alone trains."""
    setting = belief_setting_of(env)
    config = rl2.default(env, setting.env_steps if env_steps is None else env_steps)
    agent: MemoryAgent = config.agent  # pyright: ignore[reportAssignmentType]
    # Predictions would train the core, which is the bound's alone.
    objectives = replace(agent.algorithm.objectives, prediction=Prediction())
    if setting.entropy is not None:
        objectives = replace(objectives, entropy=Entropy(setting.entropy, final_factor=0.0))
    algorithm = replace(
        agent.algorithm, objectives=objectives, replayed=_replayed(env), **setting.credit
    )
    readout = BeliefConfig(setting.latent, gradient="detached")
    agent = replace(agent, readout=readout, algorithm=algorithm)
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
    novelty = Novelty(coef=1.0, bonus_coef=belief_setting_of(env).novelty)
    objectives = replace(replayed.objectives, elbo=elbo, novelty=novelty)
    algorithm = replace(agent.algorithm, replayed=replace(replayed, objectives=objectives))
    return replace(config, agent_name="hyperx", agent=replace(agent, algorithm=algorithm))


def _replayed(env: str) -> Replayed:
    """Return what trains a belief; the rows that are kept are about as many in every world."""
    objectives = Objectives(elbo=ELBO(coef=1.0, reward_kind=belief_setting_of(env).reward_kind))
    trial_length = make(env).spec.trial_length
    return Replayed(objectives=objectives, capacity=max(STORED_ROWS // trial_length, 64))


@dataclass(frozen=True)
class Published:
    """A column of the published settings. `kl_weight` is theirs, of the divergence.

    `sampled` beliefs of a trial decode as many of its steps (0: all of them, all of it).
    """

    num_lanes: int
    num_passes: int
    num_minibatches: int
    kl_weight: float
    env_steps: int = 100_000_000
    clip: float = 0.1
    gamma: float = 0.97
    gae_lambda: float = 0.9
    learning_rate: float = 7e-4
    anneal: bool = False
    entropy: float = 0.01
    latent: int = 5
    num_updates: int = 1
    num_trials: int = 10  # of a gradient step
    capacity: int = 10_000
    sampled: int = 50
    width: int = 128
    hidden: tuple[int, ...] = (128, 128)
    decoder: tuple[int, ...] = (64, 32)
    decodes_obs: bool = False  # next observations instead of rewards
    bernoulli: bool = False
    max_grad_norm: float = 1.0  # of the bound's gradient (0: unclipped)
    eval_updates: int = 25  # between evaluations


PUBLISHED = {
    "grid-navi": Published(
        16, 2, 4, 0.01, env_steps=20_000_000, clip=0.05, gamma=0.95, gae_lambda=0.95,
        num_updates=3, num_trials=25, capacity=100_000, sampled=0, width=64, hidden=(32,),
        decoder=(32, 32), bernoulli=True, max_grad_norm=0.0, eval_updates=500,
    ),
    "half-cheetah-dir": Published(32, 16, 4, 0.1),
    "half-cheetah-vel": Published(16, 2, 8, 0.1),
    "ant-dir-radian": Published(8, 2, 1, 0.1),
    "ant-goal": Published(
        8, 2, 1, 0.1, clip=0.05, learning_rate=1e-3, anneal=True, latent=10, num_updates=5,
        sampled=0,
    ),
    "walker-rand-params": Published(
        8, 2, 2, 1.0, clip=0.05, latent=10, decoder=(256, 128), decodes_obs=True
    ),
    "semicircle": Published(
        11, 2, 8, 1.0, env_steps=50_000_000, gamma=0.99, entropy=0.001, num_updates=3,
        num_trials=15, sampled=0, hidden=(128, 128, 128), max_grad_norm=0.0,
    ),
}  # fmt: skip


def paper(env: str, env_steps: int | None = None) -> Config:
    """Return the settings of the code published with VariBAD, where our worlds have its tasks.

    The bound is scaled as there (`published_bound`). Differences that remain. Encoder: actions,
    rewards and observations have one embedding, not one each, and first observations are encoded;
    its gradient is not cut every 50 steps (locomotion but for `ant-goal`). Decoder: on
    `grid-navi` it reads the step, where the published one has an output for each cell; beliefs
    that decode are spread evenly, and each decodes every step. Policy: observation and belief have
    no embedding before the hidden layers, the belief is not normalized by running moments, while
    the encoder's observations, too, are; no mean is squashed (`half-cheetah-dir`); weights begin
    as Xavier's. Values: no clipped or Huber error, and scaled rewards are not clipped at 10.
    Collecting: an update has as many rows, of whole trials, in as many lanes as that takes, where
    the published one may come in mid-trial on 16; learning begins at once, not after 5,000 steps.
    `humanoid-dir` has no such setting: its policy is squashed, and its 10,000 stored trials would
    take 9 GB.
    """
    if env not in PUBLISHED:
        raise TrmrlError(f"varibad/paper has no setting for {env}, only for {', '.join(PUBLISHED)}")
    published, trial_length = PUBLISHED[env], make(env).spec.trial_length
    budget = published.env_steps if env_steps is None else env_steps
    rows = published.num_lanes * trial_length
    agent = MemoryAgent(
        core=GRUConfig(published.width),
        readout=BeliefConfig(published.latent, "detached"),
        head=HeadConfig(published.hidden, last_gain=1.0, init_std=1.0),
        algorithm=PPO(
            gamma=published.gamma,
            gae_lambda=published.gae_lambda,
            clip=published.clip,
            num_passes=published.num_passes,
            minibatch_size=-(-rows // published.num_minibatches),
            chunk_length=1,  # the policy's gradient stops at the belief
            value=Joint(0.5),
            objectives=Objectives(entropy=Entropy(published.entropy)),
            optimizer=OptimizerConfig(
                published.learning_rate,
                decay_end=budget if published.anneal else 0,
                final_factor=0.0 if published.anneal else 1.0,
                max_grad_norm=0.5,
            ),
            replayed=Replayed(
                objectives=Objectives(elbo=published_bound(published, trial_length)),
                capacity=published.capacity,
                num_updates=published.num_updates,
                num_trials=published.num_trials,
                optimizer=OptimizerConfig(1e-3, max_grad_norm=published.max_grad_norm),
            ),
        ),
    )
    return Config(
        env,
        "varibad",
        "paper",
        agent,
        env_steps=budget,
        num_lanes=published.num_lanes,
        eval_every=published.eval_updates * rows,
        eval_tasks=16,
    )


def published_bound(published: Published, trial_length: int) -> ELBO:
    """Return the bound that is the published loss on average, number for number.

    That loss sums squared errors (not their halves), or cross entropies, over `K` beliefs of a
    trial of `T` steps, each with `K` steps decoded, and takes the mean over trials; to this it adds
    `kl_weight` times the sum of divergences over `K` beliefs *and* over all trials of the batch.
    Ours is a mean of half squares over `T^2` pairs, and `1 / T^2` times a sum over `T` divergences.
    """
    num_beliefs = published.sampled or trial_length
    coef = (1.0 if published.bernoulli else 2.0) * num_beliefs**2
    kl_sum = published.kl_weight * published.num_trials * num_beliefs  # of a mean divergence
    return ELBO(
        coef=coef,
        kl_coef=kl_sum * trial_length / coef,
        num_beliefs=published.sampled,
        reward_coef=0.0 if published.decodes_obs else 1.0,
        obs_coef=1.0 if published.decodes_obs else 0.0,
        reward_kind="bernoulli" if published.bernoulli else "gaussian",
        hidden=published.decoder,
    )
