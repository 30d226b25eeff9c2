"""An agent that adapts by memory alone and learns by PPO: TrMRL, RL² and their kin.

The core decides which: everything here is the same for all of them. A trial is one long episode
(Duan et al., 2016); its rows become tokens, the core turns tokens into features, a policy head and
a value head read the features. Lives here: acting, and what a trial teaches. Does not live here:
the mathematics of PPO (`ops/`), sequence models (`nets/`), or how weights step (`_sgd.py`).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float

from trmrl.agents._base import AbstractAgent
from trmrl.agents._ppo import PPOConfig, Rows, explained_variance, mean, standardize
from trmrl.agents._sgd import OptimizerConfig, Passes, descend, start_progress
from trmrl.nets._core import AbstractCore, AbstractCoreConfig
from trmrl.nets.embed import token, token_size
from trmrl.nets.heads import HeadConfig, PolicyHead, Predictor, policy_head
from trmrl.nets.linear import MLP
from trmrl.nets.transformer import TransformerConfig
from trmrl.ops.gae import discounted_return, gae
from trmrl.ops.normalize import Moments, add, normalize, scale, unit_moments
from trmrl.ops.ppo import clipped_surrogate, kl_estimate
from trmrl.types import (
    Decision,
    EnvSpec,
    Memory,
    Metrics,
    PRNGKey,
    Timestep,
    TrainState,
    Trajectory,
    TrmrlError,
    replace,
)


class Critic(eqx.Module):
    """A value per row, and the learned width of its error (used by the gaussian loss alone)."""

    value: MLP
    log_std: Float[jax.Array, ""]


class Network(eqx.Module):
    """What learns."""

    core: AbstractCore
    policy: PolicyHead
    critic: Critic
    predictor: Predictor | None = None


class Model(eqx.Module):
    """Everything acting needs: what learns, and the moments that normalize."""

    network: Network
    obs_moments: Moments
    return_moments: Moments


class MemoryPPO(AbstractAgent):
    """PPO on the features of a memory core.

    memory_scope: memory is emptied at the start of every trial, or of every episode. value_input:
    the value head reads the core's feature (and trains the core), or the current token alone.
    normalize_obs, normalize_reward: by running moments, which change between updates only; rewards
    are divided by the deviation of their discounted sum, and shown to the agent as they are.
    """

    lanes_per_task: ClassVar[int] = 1  # pyright: ignore[reportIncompatibleVariableOverride]
    num_tasks: ClassVar[int] = 0  # pyright: ignore[reportIncompatibleVariableOverride]

    core: AbstractCoreConfig = TransformerConfig()
    head: HeadConfig = HeadConfig()
    memory_scope: Literal["trial", "episode"] = "trial"
    value_input: Literal["feature", "token"] = "feature"
    normalize_obs: bool = True
    normalize_reward: bool = True
    ppo: PPOConfig = PPOConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    value_optimizer: OptimizerConfig = OptimizerConfig()

    def init(self, spec: EnvSpec, *, key: PRNGKey) -> TrainState:
        """Return fresh weights for worlds like `spec`."""
        core_key, policy_key, value_key, state_key = jax.random.split(key, 4)
        size = token_size(spec)
        core = self.core.build(size, spec.horizon * spec.num_episodes, key=core_key)
        value_size = {"feature": core.feature_size, "token": size}[self.value_input]
        policy = policy_head(core.feature_size, spec.action_space, self.head, key=policy_key)
        value = MLP((value_size, *self.head.hidden, 1), key=value_key)
        predictor = None
        if self.ppo.prediction_coef:
            predictor = Predictor(
                core.feature_size,
                spec.obs_size,
                spec.action_space,
                self.head,
                key=jax.random.fold_in(value_key, 1),
            )
        network = Network(core, policy, Critic(value, jnp.zeros(())), predictor)
        optimizer = {
            phase.name: start_progress(phase.optimizer, eqx.filter(network, phase.part(network)))
            for phase in self._phases()
        }
        model = Model(network, unit_moments((spec.obs_size,)), unit_moments(()))
        zero = jnp.zeros((), jnp.int32)
        return TrainState(model, optimizer, None, state_key, env_steps=zero, updates=zero)

    def start(self, model: Model, num_lanes: int) -> Memory:
        """Return the core's empty memory."""
        return model.network.core.start(num_lanes)

    def act(
        self, model: Model, memory: Memory, timestep: Timestep, *, explore: bool, key: PRNGKey
    ) -> tuple[Memory, Decision]:
        """Take the token into memory and answer from the feature it leaves."""
        network = model.network
        tokens, start = self._tokens(model, timestep)
        memory, feature = network.core.step(memory, tokens, start)
        policy = network.policy(feature)
        action = policy.sample(key=key) if explore else policy.mode()
        value = self._value(network, feature, tokens)
        return memory, Decision(action, policy.log_prob(action), value)

    def adapt(self, model: Model, memory: Memory, episode: Trajectory, *, key: PRNGKey) -> Memory:
        """Return the memory as it is: what there was to learn was learned step by step."""
        del model, episode, key
        return memory

    def update(self, train_state: TrainState, trial: Trajectory) -> tuple[TrainState, Metrics]:
        """Take `num_passes` passes of clipped policy and value steps over a trial `[K, H, B]`."""
        model, network, optimizer, metrics = train_state.model, train_state.model.network, {}, {}
        key, shuffle_key = jax.random.split(train_state.key)
        rows = jax.tree.map(jnp.asarray, trial).flatten_time()
        advantage, value_target, discount = self._credit(model, rows)
        batch = self._chunk(model, rows, advantage, value_target)
        chunks = max(self.ppo.minibatch_size // batch.token.shape[1], 1)
        passes = Passes(self.ppo.num_passes, chunks, self.ppo.stop_kl)
        entropy_coef = self._entropy_coef(train_state.env_steps)
        for i, phase in enumerate(self._phases()):
            params, rest = eqx.partition(network, phase.part(network))
            params, optimizer[phase.name], phase_metrics = descend(
                lambda p, b, phase=phase, rest=rest: phase.loss(
                    eqx.combine(p, rest), b, entropy_coef
                ),
                params,
                train_state.optimizer[phase.name],
                batch,
                phase.optimizer,
                passes,
                env_steps=train_state.env_steps,
                key=jax.random.fold_in(shuffle_key, i),
            )
            network = eqx.combine(params, rest)
            metrics = phase_metrics | metrics
        metrics["explained_variance"] = explained_variance(
            value_target, rows.decision.value, rows.valid
        )
        state = TrainState(
            model=self._see(replace(model, network=network), rows, discount),
            optimizer=optimizer,
            replay=None,
            key=key,
            env_steps=train_state.env_steps + rows.valid.sum(dtype=jnp.int32),
            updates=train_state.updates + 1,
        )
        return state, metrics

    def _tokens(self, model: Model, timestep: Timestep) -> tuple[jax.Array, jax.Array]:
        """Return tokens `[..., D]`, and where memory is emptied before they are taken."""
        start = jnp.asarray(timestep.trial_start)
        if self.memory_scope == "episode":
            start = start | timestep.episode_start
        return token(timestep, model.obs_moments if self.normalize_obs else None, start), start

    def _value(self, network: Network, feature: jax.Array, tokens: jax.Array) -> jax.Array:
        inputs = {"feature": feature, "token": tokens}[self.value_input]
        return network.critic.value(inputs)[..., 0]

    def _credit(self, model: Model, rows: Trajectory) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return advantages, value targets and discounts, `[T, B]`, in scaled reward."""
        ppo, outcome, value = self.ppo, rows.outcome, rows.decision.value
        reward = scale(model.return_moments, outcome.reward) if self.normalize_reward else None
        reward = outcome.reward if reward is None else reward
        last = rows.valid & (jnp.cumsum(rows.valid, axis=0) == rows.valid.sum(0)[None])
        next_starts = jnp.roll(rows.timestep.episode_start, -1, axis=0).at[-1].set(True)
        ends_episode = outcome.terminated | outcome.truncated | next_starts
        ends = last if ppo.credit_across_episodes else last | ends_episode
        discount = jnp.where(ends, 0.0, ppo.gamma)
        returns = jax.vmap(discounted_return, in_axes=1, out_axes=1)
        target = returns(reward, discount, rows.valid)
        if ppo.bootstrap:
            reward = jnp.where(ends & ~outcome.terminated, value, reward)
        estimate = jax.vmap(gae, in_axes=(1, 1, 1, 1, None), out_axes=1)
        advantage = estimate(reward, value, discount, rows.valid, ppo.gae_lambda)
        target = target if ppo.value_target == "return" else value + advantage
        return advantage, target, discount

    def _chunk(
        self, model: Model, rows: Trajectory, advantage: jax.Array, value_target: jax.Array
    ) -> Rows:
        """Cut a trial `[T, B]` into chunks, with the memory that each begins with."""
        num_rows, num_lanes = rows.valid.shape
        length = self.ppo.chunk_length or num_rows
        if num_rows % length:
            raise TrmrlError(f"chunks of {length} steps do not divide a trial of {num_rows}")
        num_chunks = num_rows // length
        tokens, start = self._tokens(model, rows.timestep)
        if self.ppo.normalize_advantage:
            advantage = standardize(advantage, rows.valid)
        decision = rows.decision
        batch = Rows(
            None,
            tokens,
            start,
            rows.valid,
            decision.action,
            decision.log_prob,
            advantage,
            value_target,
            self._outcome(model, rows),
        )
        by_time = jax.tree.map(lambda x: x.reshape((num_chunks, length, *x.shape[1:])), batch)
        memory0 = None
        if num_chunks > 1:
            core = model.network.core
            _, memory0 = jax.lax.scan(
                lambda m, c: (core.unroll(m, c.token, c.start, c.valid)[0], m),
                core.start(num_lanes),
                by_time,
            )
            memory0 = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), memory0)
        merge = lambda x: jnp.swapaxes(x, 1, 2).reshape((-1, length, *x.shape[3:]))
        return replace(jax.tree.map(merge, by_time), memory0=memory0)

    def _outcome(self, model: Model, rows: Trajectory) -> jax.Array:
        """Return rewards, by this trial's own moments, and next observations as they are shown."""
        reward = standardize(rows.outcome.reward, rows.valid)[..., None]
        next_obs = rows.outcome.next_obs
        if self.normalize_obs:
            next_obs = normalize(model.obs_moments, next_obs)
        return jnp.concatenate([reward, next_obs], axis=-1)

    def _features(self, network: Network, rows: Rows) -> tuple[jax.Array, jax.Array]:
        """Return features and tokens at every row of a minibatch, time first."""
        token, start, valid = (jnp.swapaxes(x, 0, 1) for x in (rows.token, rows.start, rows.valid))
        _, feature = network.core.unroll(rows.memory0, token, start, valid)
        return feature, token

    def _read(self, network: Network, rows: Rows) -> tuple[Any, jax.Array]:
        """Return the policy and the value at every row of a minibatch, time first."""
        feature, token = self._features(network, rows)
        return network.policy(feature), self._value(network, feature, token)

    def _entropy_coef(self, env_steps: jax.Array) -> jax.Array:
        """Return what the bonus weighs by now: a straight line over the decay of the step size."""
        fall = 1.0 - self.ppo.entropy_final_factor
        return self.ppo.entropy_coef * (1.0 - fall * self.optimizer.elapsed(env_steps))

    def _policy_loss(
        self, network: Network, rows: Rows, entropy_coef: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        """Return the negative clipped surrogate and the predictions' error, and their parts."""
        feature, _ = self._features(network, rows)
        return self._feature_loss(network, feature, rows, entropy_coef)

    def _feature_loss(
        self, network: Network, feature: jax.Array, rows: Rows, entropy_coef: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        loss, metrics = self._surrogate(network.policy(feature), rows, entropy_coef)
        if network.predictor is None:
            return loss, metrics
        said = network.predictor(feature, jnp.swapaxes(rows.action, 0, 1))
        error, predicted = self._prediction_error(said, rows)
        return loss + self.ppo.prediction_coef * error, metrics | predicted

    def _surrogate(
        self, policy: Any, rows: Rows, entropy_coef: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        action, old, advantage, valid = (
            jnp.swapaxes(x, 0, 1) for x in (rows.action, rows.log_prob, rows.advantage, rows.valid)
        )
        log_ratio = policy.log_prob(action) - old
        ratio = jnp.exp(log_ratio)
        gain = mean(clipped_surrogate(ratio, advantage, self.ppo.clip), valid)
        entropy = mean(policy.entropy(), valid)
        clipped = jnp.abs(ratio - 1) > self.ppo.clip
        metrics = {
            "policy_loss": -gain,
            "entropy": entropy,
            "kl": mean(kl_estimate(log_ratio), valid),
            "clip_fraction": mean(clipped.astype(jnp.float32), valid),
        }
        return -gain - entropy_coef * entropy, metrics

    def _value_loss(
        self, network: Network, rows: Rows, entropy_coef: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        """Return the value head's loss."""
        del entropy_coef
        _, value = self._read(network, rows)
        return self._value_error(network, value, rows)

    def _value_error(
        self, network: Network, value: jax.Array, rows: Rows
    ) -> tuple[jax.Array, Metrics]:
        error = value - jnp.swapaxes(rows.value_target, 0, 1)
        loss = 0.5 * error**2
        if self.ppo.value_loss == "gaussian":
            log_std = network.critic.log_std
            loss = loss * jnp.exp(-2 * log_std) + log_std
        loss = mean(loss, jnp.swapaxes(rows.valid, 0, 1))
        return loss, {"value_loss": loss}

    def _prediction_error(self, said: jax.Array, rows: Rows) -> tuple[jax.Array, Metrics]:
        """Return half the squared errors of the reward and, on average, of what is seen next."""
        outcome, valid = (jnp.swapaxes(x, 0, 1) for x in (rows.outcome, rows.valid))
        error = 0.5 * (said - outcome) ** 2
        reward, obs = mean(error[..., 0], valid), mean(error[..., 1:].mean(axis=-1), valid)
        return reward + obs, {"reward_prediction_loss": reward, "obs_prediction_loss": obs}

    def _joint_loss(
        self, network: Network, rows: Rows, entropy_coef: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        """Return policy and value losses added, from one reading."""
        feature, token = self._features(network, rows)
        policy_loss, metrics = self._feature_loss(network, feature, rows, entropy_coef)
        value = self._value(network, feature, token)
        value_loss, value_metrics = self._value_error(network, value, rows)
        return policy_loss + self.ppo.value_coef * value_loss, metrics | value_metrics

    def _phases(self) -> tuple["Phase", ...]:
        """Return the descents of an update, in order."""
        everything = lambda network: network
        if self.ppo.value_phase == "joint":
            return (Phase("policy", self._joint_loss, everything, self.optimizer),)
        learns = lambda n: (n.core, n.policy, n.predictor)
        reads = {"feature": everything, "token": lambda network: network.critic}[self.value_input]
        return (
            Phase("policy", self._policy_loss, learns, self.optimizer),
            Phase("value", self._value_loss, reads, self.value_optimizer),
        )

    def _see(self, model: Model, rows: Trajectory, discount: jax.Array) -> Model:
        """Return the model with the trial's observations and returns added to its moments."""
        valid = rows.valid.reshape(-1)
        obs = rows.timestep.obs.reshape((-1, rows.timestep.obs.shape[-1]))
        returns = jax.vmap(discounted_return, in_axes=1, out_axes=1)
        sums = returns(rows.outcome.reward, discount, rows.valid).reshape(-1)
        return replace(
            model,
            obs_moments=add(model.obs_moments, obs, valid),
            return_moments=add(model.return_moments, sums, valid),
        )


@dataclass(frozen=True)
class Phase:
    """One descent of an update: a loss, the part of the network it may change, and its steps."""

    name: str
    loss: Any
    where: Any
    optimizer: OptimizerConfig

    def part(self, network: Network) -> Any:
        """Return a mask of the arrays this phase changes."""
        nothing = jax.tree.map(lambda _: False, network)
        paint = lambda part: jax.tree.map(lambda _: True, part)
        return eqx.tree_at(self.where, nothing, replace_fn=paint)
