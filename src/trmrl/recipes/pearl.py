"""PEARL (Rakelly et al., 2019): a posterior over tasks and soft actor-critic."""

from dataclasses import dataclass
from typing import Any

from trmrl.agents.base import TaskPlan
from trmrl.agents.pearl import PEARL
from trmrl.config import Config
from trmrl.envs import make
from trmrl.learners.descent import OptimizerConfig
from trmrl.recipes._default import setting_of
from trmrl.types import Continuous, TrmrlError


@dataclass(frozen=True)
class Budget:
    """How much of a family of worlds is rolled out."""

    num_lanes: int
    num_episodes: int
    gradient_steps: float  # for an environment step
    env_steps: int


LOCOMOTION = Budget(10, 5, 0.1, 1_000_000)
# Worlds that cost nothing to step: many tasks at a time.
SMALL = Budget(100, 10, 0.05, 2_000_000)
# What the point robots want otherwise. Short episodes are worth a short sight; their training goals
# are few, and a ring of 300 draws holds nearly all of them. Beliefs grow finer with every episode,
# or learn where the goal is not, so that learning meets beliefs of every age. Where rewards are
# sparse z of the prior has to go everywhere, which takes beliefs held close to it.
SPECIAL: dict[str, dict[str, Any]] = {
    "point-robot": {
        "plan": TaskPlan(300),
        "capacity": 2_000,
        "latent": 10,
        "encoder_hidden": (200, 200, 200),
        "context_episodes": 10,
        "context_size": 64,
        "context_prefix": True,
        "gamma": 0.8,
        "reward_scale": 100.0,
    },
    "point-robot-sparse": {
        "plan": TaskPlan(300),
        "capacity": 2_000,
        "context_episodes": 10,
        "context_prefix": True,
        "gamma": 0.9,
        "reward_scale": 100.0,
        "kl_coef": 1.0,
    },
}


def default(env: str, env_steps: int | None = None) -> Config:
    """Return our setting: smaller networks and batches than published, for two cores."""
    spec = make(env).spec
    if not isinstance(spec.action_space, Continuous):
        raise TrmrlError(f"pearl needs continuous actions, {env} has choices")
    usual = LOCOMOTION if setting_of(spec).transformer.window else SMALL
    budget = usual.env_steps if env_steps is None else env_steps
    trial = usual.num_lanes * usual.num_episodes * spec.horizon
    ours: dict[str, Any] = {
        "encoder_hidden": (128, 128),
        "hidden": (128, 128),
        "num_steps": round(usual.gradient_steps * trial),
        "batch_size": 64,
        "optimizer": OptimizerConfig(
            1e-3,
            decay_start=round(0.7 * budget),  # earlier, and half-cheetah-vel learns too slowly
            decay_end=budget,
            final_factor=0.05,
            max_grad_norm=0.0,
        ),
    }
    return Config(
        env,
        "pearl",
        "default",
        PEARL(**(ours | SPECIAL.get(env, {}))),
        env_steps=budget,
        num_lanes=usual.num_lanes,
        num_episodes=usual.num_episodes,
        eval_every=usual.env_steps // 20,
    )


@dataclass(frozen=True)
class Published:
    """A column of the published configurations (oyster).

    `episodes` are those of the two phases in which a task's experience is collected. Belief and z
    are cleared before either, so that the second, too, begins with an episode on the prior.
    """

    num_tasks: int
    meta_batch: int
    episodes: tuple[int, int]
    num_steps: int
    context_size: int
    eval_prior_episodes: int = 2
    kl_coef: float = 0.1
    reward_scale: float = 5.0
    gamma: float = 0.99
    context_next_obs: bool = False
    whole_context: bool = False  # of both phases; else of the first alone
    dense_critics: bool = False
    num_lanes: int = 5
    initial_steps: int = 2_000  # of each task, before the first gradient step


PUBLISHED = {
    "half-cheetah-vel": Published(100, 16, (2, 3), 2_000, 100),
    "half-cheetah-dir": Published(20, 4, (5, 5), 2_000, 256),
    "ant-dir": Published(20, 4, (2, 3), 4_000, 256),
    "ant-goal": Published(150, 10, (2, 3), 4_000, 256, kl_coef=1.0),
    "humanoid-dir": Published(100, 16, (2, 3), 4_000, 256),
    "walker-rand-params": Published(40, 10, (2, 3), 4_000, 100, context_next_obs=True),
    "hopper-rand-params": Published(40, 10, (2, 3), 4_000, 100, context_next_obs=True),
    "point-robot": Published(80, 16, (10, 10), 1_000, 64, 1, reward_scale=100.0, initial_steps=200),
    "point-robot-sparse": Published(
        80, 16, (5, 45), 1_000, 1_024, 5, kl_coef=1.0, reward_scale=100.0, gamma=0.9,
        whole_context=True, dense_critics=True, num_lanes=10, initial_steps=200,
    ),
}  # fmt: skip
ITERATIONS = 500


def paper(env: str, env_steps: int | None = None) -> Config:
    """Return the published setting (oyster), from networks to schedule.

    Differences that remain. Learning: slow copies of both critics stand for a value network and its
    slow copy (`PEARL`), all gradients of a step are those at the weights before it, where the
    published actor follows critics that have taken theirs, and weights begin as Xavier's. Tasks
    come in a ring, five or ten a trial, not with replacement, and where a family has two, the ring
    holds twenty draws of them, with a store each (`ant-dir`: forward and backward, where the
    published configuration draws two angles). Collecting: a trial has so many episodes, not steps,
    however early they end; the second phase acts on what all episodes before it show, as in
    evaluation, not on rows drawn from the context; the first experience is collected like all
    other, not all of it on the prior. An evaluation has as many episodes as a trial of training,
    where the published score is of the third (`point-robot-sparse`: the twentieth).
    """
    if env not in PUBLISHED:
        raise TrmrlError(f"pearl/paper has no setting for {env}, only for {', '.join(PUBLISHED)}")
    published, horizon = PUBLISHED[env], make(env).spec.horizon
    first_phase, num_episodes = published.episodes[0], sum(published.episodes)
    trial = num_episodes * horizon
    rounds = -(-published.initial_steps // trial)
    warm = rounds * published.num_tasks // published.num_lanes
    usual = (warm + ITERATIONS) * published.num_lanes * trial
    agent = PEARL(
        plan=TaskPlan(published.num_tasks),
        prior_episodes=published.eval_prior_episodes,
        collect_prior_episodes=first_phase + 1,
        context_episodes=num_episodes if published.whole_context else first_phase,
        context_size=published.context_size,
        context_next_obs=published.context_next_obs,
        capacity=-(-usual // (published.num_tasks * trial)) * trial,  # forgets nothing
        warm_steps=warm * published.num_lanes * trial,
        num_steps=published.num_steps,
        meta_batch=published.meta_batch,
        kl_coef=published.kl_coef,
        dense_critics=published.dense_critics,
        reward_scale=published.reward_scale,
        gamma=published.gamma,
    )
    return Config(
        env,
        "pearl",
        "paper",
        agent,
        env_steps=usual if env_steps is None else env_steps,
        num_lanes=published.num_lanes,
        num_episodes=num_episodes,
        eval_every=20 * published.num_lanes * trial,
    )
