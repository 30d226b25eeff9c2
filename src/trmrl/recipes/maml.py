"""MAML (Finn et al., 2017) and its kin: by a trust region, by PPO, and ProMP (Rothfuss, 2019)."""

from trmrl.agents.base import TaskPlan
from trmrl.agents.maml import MAML
from trmrl.config import Config
from trmrl.envs import make
from trmrl.learners.descent import OptimizerConfig
from trmrl.learners.outer import AbstractOuter, OuterPPOConfig, TRPOConfig
from trmrl.types import Discrete, TrmrlError

NUM_EPISODES = 2  # published: before and after the adaptation
PAPER_TASKS, PAPER_ROLLOUTS, PAPER_UPDATES = 40, 20, 1001
TASKS, ROLLOUTS, UPDATES = 20, 10, 250
EVAL_TASKS = 20  # each of them in as many worlds as a task has rollouts

PROMP_KL = 5e-4


def default(env: str, env_steps: int | None = None) -> Config:
    """Return our setting of MAML-TRPO: a quarter of the rollouts and of the updates.

    A trial has the world's own number of episodes, with an adaptation after each but the last, so
    that every agent's `bandit-n10-k5` is of ten pulls.
    """
    return _default(env, "maml", TRPOConfig(), env_steps)


def ppo(env: str, env_steps: int | None = None) -> Config:
    """Return our setting with ten clipped passes in place of the trust region."""
    return _default(env, "maml-ppo", _passes(0.0), env_steps)


def promp(env: str, env_steps: int | None = None) -> Config:
    """Return our setting of ProMP: the passes, its inner loss and its penalty."""
    return _default(env, "promp", _passes(PROMP_KL), env_steps, inner_loss="ratio")


def paper(env: str, env_steps: int | None = None) -> Config:
    """Return MAML-TRPO of the ProMP code, which PEARL and TrMRL were compared with.

    Differences that remain: products by the Hessian are exact, there by finite differences; an
    episode of half-cheetah-dir has 200 steps, there 100; observations have 20 numbers, there 17;
    the baseline is fitted by QR, there by the normal equations.
    """
    return _paper(env, "maml", TRPOConfig(damping=0.0), env_steps)


def promp_paper(env: str, env_steps: int | None = None) -> Config:
    """Return ProMP of the same code, with the differences that `paper` names."""
    return _paper(env, "promp", OuterPPOConfig(kl_coef=PROMP_KL), env_steps, inner_loss="ratio")


def _passes(kl_coef: float) -> OuterPPOConfig:
    """Return more and bolder passes than the published five at 1e-3, for fewer updates.

    Unbridled they forgot half-cheetah-dir in one update after 140 good ones, so that the step size
    follows the divergence, and passes end where it grows.
    """
    steps = OptimizerConfig(learning_rate=3e-3, max_grad_norm=0.0)
    return OuterPPOConfig(
        num_passes=10, kl_coef=kl_coef, stop_kl=0.1, target_kl=0.03, optimizer=steps
    )


def _default(
    env: str, agent_name: str, outer: AbstractOuter, env_steps: int | None, **fields: str
) -> Config:
    spec = make(env).spec
    num_episodes = max(spec.num_episodes, 2)  # one to adapt to, one that follows
    trial = TASKS * ROLLOUTS * num_episodes * spec.horizon
    discrete = isinstance(spec.action_space, Discrete)
    agent = MAML(
        plan=TaskPlan(lanes_per_task=ROLLOUTS),
        inner_rate=0.5 if discrete else 0.1,
        outer=outer,
        **fields,  # pyright: ignore[reportArgumentType]
    )
    return Config(
        env=env,
        agent_name=agent_name,
        recipe="default",
        agent=agent,
        env_steps=UPDATES * trial if env_steps is None else env_steps,
        num_lanes=TASKS * ROLLOUTS,
        num_episodes=0 if num_episodes == spec.num_episodes else num_episodes,
        eval_every=UPDATES // 10 * trial,
        eval_tasks=EVAL_TASKS,
    )


def _paper(
    env: str, agent_name: str, outer: AbstractOuter, env_steps: int | None, **fields: str
) -> Config:
    if env not in ("half-cheetah-vel", "half-cheetah-dir"):
        raise TrmrlError(
            f"{agent_name}/paper has no setting for {env}, "
            "only for half-cheetah-vel, half-cheetah-dir"
        )
    trial = PAPER_TASKS * PAPER_ROLLOUTS * NUM_EPISODES * make(env).spec.horizon
    agent = MAML(
        plan=TaskPlan(lanes_per_task=PAPER_ROLLOUTS),
        outer=outer,
        **fields,  # pyright: ignore[reportArgumentType]
    )
    return Config(
        env=env,
        agent_name=agent_name,
        recipe="paper",
        agent=agent,
        env_steps=PAPER_UPDATES * trial if env_steps is None else env_steps,
        num_lanes=PAPER_TASKS * PAPER_ROLLOUTS,
        num_episodes=NUM_EPISODES,
        eval_every=10 * trial,
        eval_tasks=EVAL_TASKS,
    )
