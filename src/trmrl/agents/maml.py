"""Agents that adapt by gradient: MAML, and its kin by PPO and ProMP.

Weights are learned from which one policy-gradient step, on a few rollouts of a new task, leads to a
good policy for it (Finn et al., 2017). Several lanes work on each task and share its fast weights.
The outer step is `learners/outer.py`.
"""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Shaped

from trmrl.agents.base import AbstractAgent, TaskPlan
from trmrl.learners.outer import (
    AbstractOuter,
    Batch,
    Readapted,
    Rollouts,
    TRPOConfig,
    surrogate_loss,
)
from trmrl.nets.heads import HeadConfig, PolicyHead, policy_head
from trmrl.ops.linear_baseline import baseline_advantage
from trmrl.ops.masked import mean, standardize
from trmrl.settings import field
from trmrl.types import (
    Decision,
    EnvSpec,
    LaneKeys,
    Learner,
    Metrics,
    PRNGKey,
    Timestep,
    Trajectory,
    Trial,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FastWeights:
    """A policy for each task, and how often it was adapted; acting changes neither."""

    policy: PolicyHead  # every leaf `[M, ...]`
    num_episodes: Int[jax.Array, ""]  # adapted to so far

    @property
    def num_tasks(self) -> int:
        """How many tasks there are, `M`."""
        return jax.tree.leaves(self.policy)[0].shape[0]


class MAML(AbstractAgent):
    """Fast weights per task, one gradient step away from weights that every task begins with.

    The model is the policy that tasks begin with; memory is one such policy per task, `[M, ...]`.
    The first `exploration_episodes` of a trial are sampled even where modes are asked for: the
    policy's gradient is zero at its mode, from which nothing can be adapted to.

    Inner steps ascend `log pi` times advantage, or the ratio times advantage (`inner_loss`): the
    same gradient, another curvature. Advantages are over a linear baseline fitted per task and
    episode. exploration_coef: E-MAML's credit to the episodes before the last adaptation, for what
    followed it (Stadie et al., 2018).
    """

    exploration_episodes: int = field(1, low=0)
    head: HeadConfig = HeadConfig(last_gain=1.0, init_std=1.0)
    # What the policy calls 1 moves a continuous action by 1 / action_scale; log-probabilities are
    # in the policy's units.
    action_scale: float = field(10.0, low=1e-6)  # of the policy's units to the world's
    gamma: float = field(0.99, low=0, high=1)  # discount per step
    gae_lambda: float = field(1.0, low=0, high=1)  # discount of advantage estimates, beside gamma
    inner_loss: Literal["log_prob", "ratio"] = "log_prob"
    inner_rate: float = field(0.1, low=0)  # step size between two episodes
    num_inner_steps: int = field(1, low=1)  # between two episodes
    first_order: bool = False  # the outer gradient takes inner gradients for constants
    exploration_coef: float = field(0.0, low=0)
    outer: AbstractOuter = TRPOConfig()
    plan: TaskPlan = TaskPlan(lanes_per_task=20)

    def check(self, spec: EnvSpec) -> str | None:
        """Return a complaint where no episode follows an adaptation."""
        if spec.num_episodes < 2:
            return (
                "outer learns from what follows an adaptation: "
                f"num_episodes is {spec.num_episodes}, expected 2 or more"
            )
        return None

    def init(self, spec: EnvSpec, *, key: PRNGKey) -> Learner:
        """Return fresh weights for worlds like `spec`."""
        policy_key, _ = jax.random.split(key)
        policy = policy_head(spec.obs_size, spec.action_space, self.head, key=policy_key)
        return Learner(policy, self.outer.start(policy))

    def start(self, model: PolicyHead, num_lanes: int) -> FastWeights:
        """Return the learned weights for every task; fewer lanes than a task's are all on one."""
        num_tasks = self.plan.groups(num_lanes)
        alike = jax.tree.map(lambda x: jnp.broadcast_to(x, (num_tasks, *x.shape)), model)
        return FastWeights(alike, jnp.int32(0))

    def act(
        self,
        model: PolicyHead,
        memory: FastWeights,
        timestep: Timestep,
        *,
        explore: bool,
        key: LaneKeys,
    ) -> tuple[FastWeights, Decision]:
        """Answer from each task's fast weights, and leave them as they are."""
        del model
        obs = jnp.asarray(timestep.obs)
        by_task = obs.reshape((memory.num_tasks, -1, obs.shape[-1]))
        policy = jax.vmap(lambda weights, obs: weights(obs))(memory.policy, by_task)
        policy = jax.tree.map(lambda x: x.reshape((len(obs), *x.shape[2:])), policy)
        exploring = explore | (memory.num_episodes < self.exploration_episodes)
        sample = jnp.where(exploring, policy.sample(key=key), policy.mode())
        nothing = jnp.zeros(len(obs), obs.dtype)  # no critic
        action = _scale(sample, 1.0 / self.action_scale)
        return memory, Decision(action, policy.log_prob(sample), nothing)

    def adapt(self, model: PolicyHead, memory: FastWeights, episode: Trajectory) -> FastWeights:
        """Return each task's weights after the inner steps on its own lanes' episode."""
        del model
        rollouts = self._rollouts(episode, memory.num_tasks)
        policy = jax.vmap(self._inner_steps)(memory.policy, rollouts)
        return FastWeights(policy, memory.num_episodes + 1)

    def update(
        self, learner: Learner, trial: Trial, *, env_steps: Float[jax.Array, ""], key: PRNGKey
    ) -> tuple[Learner, Metrics]:
        """Take one outer step on a trial: adapt on all episodes but the last."""
        policy, rows = learner.model, jax.tree.map(jnp.asarray, trial.rows)
        batch = self._batch(policy, rows)
        readapt = jax.vmap(self._readapt, in_axes=(None, 0))
        policy, optimizer, outer_metrics = self.outer.step(
            readapt, policy, learner.optimizer, batch, env_steps=env_steps, key=key
        )
        after = readapt(policy, batch)
        metrics = {
            "policy_loss": surrogate_loss(after, batch),  # about 0 before the step
            "kl": after.kl_after.mean(),
            "kl_before_adapting": after.kl_before.mean(),
            "entropy": after.entropy.mean(),
        }
        return Learner(policy, optimizer), outer_metrics | metrics

    def _rollouts(self, episode: Trajectory, num_tasks: int) -> Rollouts:
        """Return an episode `[H, B]` as `M` tasks' rollouts, `[M, H, R]`."""
        valid = jnp.asarray(episode.valid)

        def by_task(x: jax.Array) -> jax.Array:
            mask = valid.reshape(valid.shape + (1,) * (x.ndim - 2))
            x = jnp.where(mask, x, jnp.zeros_like(x))
            return jnp.moveaxis(x.reshape((len(x), num_tasks, -1, *x.shape[2:])), 1, 0)

        decision, outcome = jax.tree.map(jnp.asarray, (episode.decision, episode.outcome))
        obs, reward = by_task(jnp.asarray(episode.timestep.obs)), by_task(outcome.reward)
        happened = by_task(valid)
        estimate = jax.vmap(baseline_advantage, in_axes=(0, 0, 0, None, None))
        advantage = estimate(obs, reward, happened, self.gamma, self.gae_lambda)
        return Rollouts(
            obs,
            _scale(by_task(decision.action), self.action_scale),
            by_task(decision.log_prob),
            reward,
            jax.vmap(standardize)(advantage, happened),
            happened,
        )

    def _batch(self, policy: PolicyHead, rows: Trajectory) -> Batch:
        """Return rows `[K, H, B]` by task, and the policies that acted in them."""
        num_tasks = self.plan.groups(rows.valid.shape[-1])
        rollouts = jax.vmap(lambda e: self._rollouts(e, num_tasks), out_axes=1)(rows)
        before, after = jax.vmap(self._policies, in_axes=(None, 0))(policy, rollouts)
        return Batch(rollouts, before, after, _credit(rollouts))

    def _inner_loss(self, policy: PolicyHead, rollouts: Rollouts) -> Float[jax.Array, ""]:
        """Return the negative surrogate of one task's episode `[H, R]`."""
        log_prob = policy(rollouts.obs).log_prob(rollouts.action)
        ratio = jnp.exp(log_prob - rollouts.log_prob)
        gain = {"log_prob": log_prob, "ratio": ratio}[self.inner_loss]
        return -mean(gain * rollouts.advantage, rollouts.valid)

    def _inner_steps(self, policy: PolicyHead, rollouts: Rollouts) -> PolicyHead:
        """Return one task's weights, adapted to an episode `[H, R]`."""
        for _ in range(self.num_inner_steps):
            gradient = jax.grad(self._inner_loss)(policy, rollouts)
            if self.first_order:
                gradient = jax.lax.stop_gradient(gradient)
            policy = jax.tree.map(lambda w, g: w - self.inner_rate * g, policy, gradient)
        return policy

    def _policies(self, policy: PolicyHead, rollouts: Rollouts) -> tuple[Any, Any]:
        """Return who acts in a task's `K` episodes if it begins with `policy`.

        Distributions `[K - 1, H, R]` of all episodes but the last, then `[H, R]` of the last.
        """

        def episode(policy, rollouts):
            return self._inner_steps(policy, rollouts), policy(rollouts.obs)

        policy, before = jax.lax.scan(episode, policy, jax.tree.map(lambda x: x[:-1], rollouts))
        return before, policy(rollouts.obs[-1])

    def _readapt(self, policy: PolicyHead, batch: Batch) -> Readapted:
        """Return what `policy` computes for one task's part of a batch."""
        before, after = self._policies(policy, batch.rollouts)
        early, last = (
            jax.tree.map(lambda x, part=part: x[part], batch.rollouts) for part in (slice(-1), -1)
        )
        explored = mean(before.log_prob(early.action), early.valid)
        return Readapted(
            log_ratio=after.log_prob(last.action) - last.log_prob,
            kl_before=mean(batch.old_before.kl(before), early.valid),
            kl_after=mean(batch.old_after.kl(after), last.valid),
            entropy=mean(after.entropy(), last.valid),
            exploration=self.exploration_coef * batch.credit * explored,
        )


def _scale(action: Shaped[jax.Array, "..."], factor: float) -> Shaped[jax.Array, "..."]:
    """Return a continuous action times `factor`; a choice has no size."""
    return action * factor if jnp.issubdtype(action.dtype, jnp.inexact) else action


def _credit(rollouts: Rollouts) -> Float[jax.Array, " M"]:
    """Return each task's mean reward in the last episode, rewards standardized over all tasks."""
    reward, valid = rollouts.reward[:, -1], rollouts.valid[:, -1]
    return jax.vmap(mean)(standardize(reward, valid), valid)
