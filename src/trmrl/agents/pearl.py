"""PEARL (Rakelly et al., 2019): a posterior over tasks, sampled anew for every episode, and SAC.

What an agent carries is a belief about its task, a product of Gaussian factors, one per transition;
acting reads one sample of it.
"""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from trmrl.agents.base import AbstractAgent, TaskPlan
from trmrl.learners.descent import OptimizerConfig
from trmrl.learners.replay import (
    Replay,
    Transitions,
    clear,
    draw,
    empty_replay,
    store,
    transitions,
)
from trmrl.nets.distributions import Gaussian, Squashed
from trmrl.nets.linear import MLP
from trmrl.ops.gaussian_product import factor, kl_to_prior, product
from trmrl.ops.sac import soft_value, value_target
from trmrl.settings import field
from trmrl.types import (
    Continuous,
    Decision,
    EnvSpec,
    LaneKeys,
    Learner,
    Memory,
    Metrics,
    PRNGKey,
    Timestep,
    Trajectory,
    Trial,
    TrmrlError,
    replace,
)

LOG_STD = -20.0, 2.0  # of the normal under the policy's tangent, as published


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Belief:
    """What a lane knows of its task, and the sample it acts on in this episode."""

    precision: Float[jax.Array, "B L"]  # sums over the transitions taken in so far
    weighted: Float[jax.Array, "B L"]
    z: Float[jax.Array, "B L"]  # drawn when the episode began
    num_episodes: Int[jax.Array, " B"]  # taken in so far


class Model(eqx.Module):
    """Everything that learns; `encoder` and `actor` act, the critics train them."""

    encoder: MLP
    actor: MLP
    critics: tuple[MLP, MLP]
    target_critics: tuple[MLP, MLP]
    log_temperature: Float[jax.Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Stored:
    """Experience of the training tasks."""

    everything: Replay
    context: Replay  # of a task's latest trial alone: what its belief is inferred from in learning


class PEARL(AbstractAgent):
    """Posterior sampling, and soft actor-critic on stored experience.

    The first `prior_episodes` of a trial act on z from the prior, later ones on z from the
    posterior given all before. In trials that training collects these are the first
    `collect_prior_episodes`; evaluations are not, whether actions are sampled in them or not
    (it is `collector`, never `explore`, that sets the two apart).

    `context_episodes`, the first of a task's latest trial, are what its posterior is inferred from
    in learning, by `context_size` rows drawn from them. With `context_prefix` they are drawn from a
    beginning of that trial, of any length, and the factor of each counts as often as makes the
    precision that of the whole beginning: what acting will have, early and late; without, as
    published, from the whole and counted once.

    An update stores its trial and takes `num_steps` gradient steps, each on `batch_size` rows of
    each of `meta_batch` tasks that have any. Critics learn from a world's denser reward, where it
    has one, if `dense_critics`. The temperature is 1, or tuned to an entropy of minus one nat an
    action if `tune_temperature`.

    In the published code a value network and its slow copy stand where here the slow copies of both
    critics do, with the policy's own action in the successor (Haarnoja et al., 2018b).
    """

    latent: int = field(5, low=1)  # dimensions of z
    prior_episodes: int = field(2, low=0)  # of a trial, on z from the prior
    collect_prior_episodes: int = field(2, low=0)  # the same of a trial that training collects
    context_episodes: int = field(2, low=1)  # of a task's latest trial, inferred from in learning
    context_size: int = field(100, low=1)  # rows drawn from them
    context_next_obs: bool = False  # the encoder reads successors too
    context_prefix: bool = False  # rows come from a beginning of that trial, of any length
    encoder_hidden: tuple[int, ...] = field((200, 200, 200), low=1)  # widths
    hidden: tuple[int, ...] = field((300, 300, 300), low=1)  # widths of actor and critics
    capacity: int = field(10_000, low=1)  # rows kept of a task
    warm_steps: int = field(0, low=0)  # env steps that are stored before the first gradient step
    num_steps: int = field(2_000, low=1)  # gradient steps of an update
    meta_batch: int = field(16, low=1)  # tasks in a gradient step
    batch_size: int = field(256, low=1)  # rows of each of them
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=3e-4, max_grad_norm=0.0)
    gamma: float = field(0.99, low=0, high=1)  # discount per step
    tau: float = field(0.005, low=0, high=1)  # by which target critics follow in a step
    kl_coef: float = field(0.1, low=0)  # of the divergence from the prior, summed over tasks
    actor_penalty: float = field(1e-3, low=0)  # on the policy's squared mean and log deviation
    dense_critics: bool = False  # critics learn from a world's denser reward
    reward_scale: float = field(5.0, low=0)  # multiplies rewards
    tune_temperature: bool = False
    plan: TaskPlan = TaskPlan(num_tasks=100)

    def check(self, spec: EnvSpec) -> str | None:
        """Return a complaint where stores cannot hold a trial, or tasks are not a fixed set."""
        rows = spec.trial_length
        if self.capacity < rows:
            return f"capacity is {self.capacity}, less than the {rows} steps of a trial"
        if self.context_episodes > spec.num_episodes:
            return (
                f"context_episodes is {self.context_episodes}, "
                f"more than the {spec.num_episodes} of a trial"
            )
        if self.plan.num_tasks < 1:
            return "plan.num_tasks is 0, expected 1 or more: experience is stored by task"
        if self.plan.lanes_per_task != 1:
            return f"plan.lanes_per_task is {self.plan.lanes_per_task}, expected 1"
        return None

    def collector(self) -> "PEARL":
        """Return the agent with as many prior episodes as training's trials have."""
        return replace(self, prior_episodes=self.collect_prior_episodes)

    def init(self, spec: EnvSpec, *, key: PRNGKey) -> Learner:
        """Return fresh weights and empty stores for worlds like `spec`.

        Raises `TrmrlError` unless actions are continuous.
        """
        if not isinstance(spec.action_space, Continuous):
            raise TrmrlError(f"PEARL needs continuous actions, {spec.name} has choices")
        keys = jax.random.split(key, 5)
        obs, action = spec.obs_size, spec.action_space.size
        row = obs + action + 1 + obs * self.context_next_obs
        q_sizes = (obs + action + self.latent, *self.hidden, 1)
        actor_sizes = (obs + self.latent, *self.hidden, 2 * action)
        relu = jax.nn.relu
        critics = MLP(q_sizes, 1.0, relu, key=keys[0]), MLP(q_sizes, 1.0, relu, key=keys[1])
        model = Model(
            MLP((row, *self.encoder_hidden, 2 * self.latent), 1.0, relu, key=keys[2]),
            MLP(actor_sizes, 0.01, relu, key=keys[3]),
            critics,
            jax.tree.map(jnp.copy, critics),
            jnp.zeros(()),
        )
        stored = Stored(
            empty_replay(self.plan.num_tasks, self.capacity, spec),
            empty_replay(self.plan.num_tasks, self.context_episodes * spec.horizon, spec),
        )
        return Learner(model, self.optimizer.start(_parts(model)), stored)

    def start(self, model: Model, num_lanes: int) -> Memory:
        """Return a belief with nothing in it; its first z is drawn when it first acts."""
        del model
        nothing = jnp.zeros((num_lanes, self.latent))
        return Belief(nothing, nothing, nothing, jnp.zeros(num_lanes, jnp.int32))

    def act(
        self, model: Model, memory: Belief, timestep: Timestep, *, explore: bool, key: LaneKeys
    ) -> tuple[Belief, Decision]:
        """Answer with the policy's action for this episode's z, which is a sample either way."""
        z_key, action_key = jnp.moveaxis(jax.vmap(jax.random.split)(key), 1, 0)
        memory = self._begin(memory, timestep, z_key)
        policy = _policy(model.actor, timestep.obs, memory.z)
        action, log_prob = policy.sample(key=action_key) if explore else policy.mode()
        q1, q2 = (_value(critic, timestep.obs, action, memory.z) for critic in model.critics)
        return memory, Decision(action, log_prob, jnp.minimum(q1, q2))

    def adapt(self, model: Model, memory: Belief, episode: Trajectory) -> Belief:
        """Take the factors of an episode's transitions into the belief."""
        rows = jax.tree.map(jnp.asarray, episode)
        valid = rows.valid[..., None]
        factors = factor(model.encoder(self._encoder_input(transitions(rows))))
        precision, weighted = (jnp.where(valid, x, 0.0).sum(axis=0) for x in factors)
        return Belief(
            memory.precision + precision,
            memory.weighted + weighted,
            memory.z,
            memory.num_episodes + 1,
        )

    def update(
        self, learner: Learner, trial: Trial, *, env_steps: Float[jax.Array, ""], key: PRNGKey
    ) -> tuple[Learner, Metrics]:
        """Store a trial, forget its tasks' earlier context, and take gradient steps.

        Raises `TrmrlError` unless its tasks come from the fixed set that experience is stored by.
        """
        if trial.task_id is None:
            raise TrmrlError("PEARL stores experience by task: trials need a task_id")
        rows = jax.tree.map(jnp.asarray, trial.rows)
        stored = self._store(learner.store, rows, jnp.asarray(trial.task_id))
        keys = jax.random.split(key, self.num_steps)
        rate = self.optimizer.rate(env_steps + rows.valid.sum(dtype=jnp.float32))

        def learn(learned):
            step = lambda learned, key: self._step(learned, stored, rate, key)
            learned, metrics = jax.lax.scan(step, learned, keys)
            return learned, jax.tree.map(jnp.mean, metrics)

        learned = learner.model, learner.optimizer
        shapes = jax.eval_shape(learn, learned)[1]
        wait = lambda learned: (learned, jax.tree.map(lambda x: jnp.zeros(x.shape), shapes))
        (model, optimizer), metrics = jax.lax.cond(
            env_steps >= self.warm_steps, learn, wait, learned
        )
        return Learner(model, optimizer, stored), metrics

    def _begin(self, memory: Belief, timestep: Timestep, key: LaneKeys) -> Belief:
        """Return the belief with a z of its own in lanes whose episode begins."""
        start = jnp.asarray(timestep.trial_start)[:, None]
        precision, weighted = (
            jnp.where(start, 0.0, x) for x in (memory.precision, memory.weighted)
        )
        num_episodes = jnp.where(start[:, 0], 0, memory.num_episodes)
        mean, variance = product(precision, weighted)
        prior = (num_episodes < self.prior_episodes)[:, None]
        mean, variance = jnp.where(prior, 0.0, mean), jnp.where(prior, 1.0, variance)
        fresh = Gaussian(mean, 0.5 * jnp.log(variance)).sample(key=key)
        z = jnp.where(jnp.asarray(timestep.episode_start)[:, None], fresh, memory.z)
        return Belief(precision, weighted, z, num_episodes)

    def _encoder_input(self, rows: Transitions) -> jax.Array:
        """Return transitions `[..., D]` as the encoder reads them."""
        parts = [rows.obs, rows.action, rows.reward[..., None]]
        return jnp.concatenate(parts + [rows.next_obs] * self.context_next_obs, axis=-1)

    def _store(self, stored: Stored, rows: Trajectory, task: Int[jax.Array, " B"]) -> Stored:
        """Return the stores with the rows `[K, H, B]` of a trial in them."""
        whole = rows.flatten_time()
        first = jax.tree.map(lambda x: x[: self.context_episodes], rows).flatten_time()
        everything = store(stored.everything, task, transitions(whole), whole.valid)
        context = clear(stored.context, task)
        context = store(context, task, transitions(first), first.valid)
        return Stored(everything, context)

    def _step(
        self, learned: Any, stored: Stored, rate: jax.Array, key: PRNGKey
    ) -> tuple[Any, Metrics]:
        """Take one gradient step of encoder and critics, actor, and temperature."""
        model, moments = learned
        task_key, context_key, batch_key, z_key, next_key, actor_key = jax.random.split(key, 6)
        task = _draw_tasks(stored, self.meta_batch, task_key)
        context, times = self._context(stored, task, context_key)
        rows = draw(stored.everything, task, self.batch_size, key=batch_key)
        noise = jax.random.normal(z_key, (self.meta_batch, self.latent))

        critic_loss = jax.grad(self._critic_loss, has_aux=True)
        critic_gradient, (z, metrics) = critic_loss(
            (model.encoder, model.critics), model, context, times, rows, noise, next_key
        )
        actor_loss = jax.grad(self._actor_loss, has_aux=True)
        actor_gradient, (log_prob, more) = actor_loss(model.actor, model, rows, z, actor_key)
        surplus = -jnp.mean(log_prob) + rows.action.shape[-1]  # of entropy over its goal
        temperature_gradient = surplus if self.tune_temperature else jnp.zeros(())
        gradient = critic_gradient, actor_gradient, temperature_gradient
        parts, moments = self.optimizer.step(_parts(model), moments, gradient, rate)
        (encoder, critics), actor, log_temperature = parts
        target: Any = optax.incremental_update(critics, model.target_critics, self.tau)
        metrics |= more | {"temperature": jnp.exp(model.log_temperature)}
        return (Model(encoder, actor, critics, target, log_temperature), moments), metrics

    def _context(
        self, stored: Stored, task: Int[jax.Array, " M"], key: PRNGKey
    ) -> tuple[Transitions, Float[jax.Array, " M"]]:
        """Return what the posteriors of tasks are to be inferred from, and how often it counts."""
        if not self.context_prefix:
            return draw(stored.context, task, self.context_size, key=key), jnp.ones(task.shape)
        length_key, key = jax.random.split(key)
        length = jax.random.randint(length_key, task.shape, 1, stored.context.count[task] + 1)
        context = draw(stored.context, task, self.context_size, among=length, key=key)
        return context, length / self.context_size

    def _critic_loss(
        self,
        parts: tuple[MLP, tuple[MLP, MLP]],
        model: Model,
        context: Transitions,
        times: Float[jax.Array, " M"],
        rows: Transitions,
        noise: Float[jax.Array, "M L"],
        key: PRNGKey,
    ) -> tuple[jax.Array, tuple[jax.Array, Metrics]]:
        """Return both critics' Bellman errors and the encoder's divergence; z, detached, beside.

        `context` is `[M, C, ...]`, each row of a task counting `times`, and `rows` `[M, N, ...]`:
        the encoder learns from them alone.
        """
        encoder, critics = parts
        factors = factor(encoder(self._encoder_input(context)))
        mean, variance = product(*(times[:, None] * x.sum(axis=1) for x in factors))
        z = _per_row(mean + jnp.sqrt(variance) * noise, rows)
        target = jax.lax.stop_gradient(self._target(model, rows, z, key))
        q1, q2 = (_value(critic, rows.obs, rows.action, z) for critic in critics)
        error = jnp.mean((q1 - target) ** 2) + jnp.mean((q2 - target) ** 2)
        kl = kl_to_prior(mean, variance)
        metrics = {"critic_loss": error, "kl": jnp.mean(kl), "q": jnp.mean(q1)}
        return error + self.kl_coef * jnp.sum(kl), (jax.lax.stop_gradient(z), metrics)

    def _target(self, model: Model, rows: Transitions, z: jax.Array, key: PRNGKey) -> jax.Array:
        """Return the critics' targets, `[M, N]`."""
        action, log_prob = _policy(model.actor, rows.next_obs, z).sample(key=key)
        q1, q2 = (_value(critic, rows.next_obs, action, z) for critic in model.target_critics)
        next_value = soft_value(q1, q2, log_prob, jnp.exp(model.log_temperature))
        reward = self.reward_scale * (rows.dense_reward if self.dense_critics else rows.reward)
        return value_target(reward, rows.terminated, next_value, self.gamma)

    def _actor_loss(
        self, actor: MLP, model: Model, rows: Transitions, z: jax.Array, key: PRNGKey
    ) -> tuple[jax.Array, tuple[jax.Array, Metrics]]:
        """Return minus the soft value of the actor's own actions; their log densities beside."""
        policy = _policy(actor, rows.obs, z)
        action, log_prob = policy.sample(key=key)
        q1, q2 = (_value(critic, rows.obs, action, z) for critic in model.critics)
        value = jnp.mean(soft_value(q1, q2, log_prob, jnp.exp(model.log_temperature)))
        width = jnp.mean(policy.normal.mean**2) + jnp.mean(policy.normal.log_std**2)
        metrics = {"actor_loss": -value, "entropy": -jnp.mean(log_prob)}
        return self.actor_penalty * width - value, (jax.lax.stop_gradient(log_prob), metrics)


def _parts(model: Model) -> tuple:
    """Return what gradients reach, by the loss it comes from."""
    return (model.encoder, model.critics), model.actor, model.log_temperature


def _draw_tasks(stored: Stored, num_tasks: int, key: PRNGKey) -> Int[jax.Array, " M"]:
    """Return tasks drawn uniformly, with replacement, from those with anything stored."""
    empty = stored.everything.count == 0
    stocked_first = jnp.argsort(empty, stable=True).astype(jnp.int32)
    return stocked_first[jax.random.randint(key, (num_tasks,), 0, jnp.sum(~empty))]


def _per_row(z: Float[jax.Array, "M L"], rows: Transitions) -> Float[jax.Array, "M N L"]:
    return jnp.broadcast_to(z[:, None], (*rows.reward.shape, z.shape[-1]))


def _policy(actor: MLP, obs: jax.Array, z: jax.Array) -> Squashed:
    """Return the policy at rows `[..., D]`, given `z` `[..., L]`."""
    mean, log_std = jnp.split(actor(jnp.concatenate([obs, z], axis=-1)), 2, axis=-1)
    return Squashed(Gaussian(mean, jnp.clip(log_std, *LOG_STD)))


def _value(critic: MLP, obs: jax.Array, action: jax.Array, z: jax.Array) -> jax.Array:
    """Return a critic's value at rows `[..., D]`, `[..., A]`, `[..., L]`."""
    return critic(jnp.concatenate([obs, action, z], axis=-1))[..., 0]
