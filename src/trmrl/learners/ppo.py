"""Proximal policy optimization over the trials of a memory agent (Schulman et al., 2017).

A trial is one long stream of rows (Duan et al., 2016), cut into chunks that begin with the memory
before them, and gone through several times by `descent.py`.
"""

from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float

from trmrl.learners.chunks import cut, decodes_tasks, gather
from trmrl.learners.descent import OptimizerConfig, Passes, descend, start_progress
from trmrl.learners.objectives import AbstractObjective, Chunks, Objectives, Surrogate, Value
from trmrl.learners.phase import Phase, reaching
from trmrl.learners.stored import Replayed, StoredTrials, draw, empty_trials, store
from trmrl.nets.core import AbstractCore
from trmrl.nets.heads import HeadConfig
from trmrl.nets.network import Model, Network
from trmrl.nets.readout import AbstractReadout
from trmrl.ops.gae import discounted_return, gae, steps_to_next
from trmrl.ops.masked import explained_variance, standardize
from trmrl.ops.normalize import Moments, add, bound, scale, unit_moments
from trmrl.settings import AbstractSettings, field
from trmrl.types import (
    EnvSpec,
    Learner,
    Metrics,
    PRNGKey,
    Trajectory,
    Trial,
    TrmrlError,
    replace,
    task_numbers,
)

# Folded into an update's key, beside its phases' numbers.
CHUNK_KEY, REPLAY_KEY, BONUS_KEY = 1_000, 1_001, 1_002


class Joint(AbstractSettings):
    """The value is a term of the one loss."""

    coef: float = field(0.5, low=0)  # of the value's error, beside the surrogate


class Separate(AbstractSettings):
    """The value has passes and an optimizer of its own, once the policy's passes are over."""

    optimizer: OptimizerConfig = OptimizerConfig()


class Credit(NamedTuple):
    """What the actions of a trial's rows are learned from, `[T, B]` each, in scaled reward."""

    advantage: jax.Array
    value_target: jax.Array
    discount: jax.Array  # zero where a stream ends
    credited: jax.Array  # bool: valid, and not the row whose value stands for what the clock cut


class PPO(AbstractSettings):
    """How a memory agent's weights change after a trial.

    minibatch_size counts rows, each minibatch a set of chunks. credit_across_episodes: rewards of
    later episodes of a trial count for earlier ones, discounted by the steps between them, those
    after an early end included; else every episode is a stream of its own, which ends where the
    world or the clock ended it, and at the latest with its slot. bootstrap: a
    stream that the clock cuts goes on in expectation: the value of its last row stands for what was
    cut off, and that row, without an advantage and a value target of its own, enters neither loss;
    else the clock is an end like any other. value_target: "lambda", advantage plus value, or
    "return", the published discounted return. Rewards are normalized by the deviation of their
    discounted sum, and shown to the agent as they are. What objectives of `replayed` reach, they
    change in steps of their own, on stored trials.
    """

    gamma: float = field(0.95, low=0, high=1)  # discount per step
    gae_lambda: float = field(0.9, low=0, high=1)  # discount of advantage estimates, beside gamma
    clip: float = field(0.2, low=0)  # of the ratio
    num_passes: int = field(4, low=1)  # over the trial
    minibatch_size: int = field(1600, low=1)  # rows
    chunk_length: int = field(1, low=0)  # steps unrolled together (0: the whole trial)
    stop_kl: float = field(0.0, low=0)  # divergence that ends an update's passes (0: none does)
    target_kl: float = field(0.0, low=0)  # divergence the step size steers at (0: it does not)
    normalize_reward: bool = True
    normalize_advantage: bool = True
    credit_across_episodes: bool = True
    bootstrap: bool = True
    value: Joint | Separate = Joint()
    value_error: Literal["squared", "gaussian"] = "squared"
    value_target: Literal["lambda", "return"] = "lambda"
    objectives: Objectives = Objectives()
    optimizer: OptimizerConfig = OptimizerConfig()
    replayed: Replayed = Replayed()

    def check(self, spec: EnvSpec) -> str | None:
        """Return a complaint where chunks do not suit a trial or its objectives.

        Or where a gradient would be lost, or two objectives would share a head.
        """
        rows = spec.trial_length
        if self.chunk_length and rows % self.chunk_length:
            return (
                f"chunk_length is {self.chunk_length}, "
                f"which does not divide the {rows} steps of a trial"
            )
        listed = {type(objective).__name__: objective for objective in self.objectives.listed()}
        for name, objective in listed.items():
            if objective.whole_trials and self.chunk_length not in (0, rows):
                return (
                    f"chunk_length is {self.chunk_length}, expected 0 for {name} among objectives, "
                    "which needs whole trials (those of replayed are whole)"
                )
        for objective in self.replayed.objectives.listed():
            if type(objective).__name__ in listed:
                name = type(objective).__name__
                return f"objectives has {name}, which replayed has too: they would share a head"
        if isinstance(self.value, Separate):  # whose phase alone changes the critic
            for name, objective in listed.items():
                if "critic" in objective.reaches:
                    return f"value is Separate, so that {name} would not reach the critic"
        return None

    def build(
        self,
        core: AbstractCore,
        readout: AbstractReadout,
        spec: EnvSpec,
        head: HeadConfig,
        *,
        key: PRNGKey,
    ) -> dict[str, Any]:
        """Return the heads that the objectives read features with, by their names."""
        heads = {
            type(objective).__name__: objective.build(
                core, readout, spec, head, key=jax.random.fold_in(key, number)
            )
            for number, objective in enumerate(self.listed())
        }
        return {name: head for name, head in heads.items() if head is not None}

    def start(self, model: Model, spec: EnvSpec) -> Learner:
        """Return the learner before the first update, for worlds like `spec`."""
        network = model.network
        optimizer: dict[str, Any] = {
            phase.name: start_progress(phase.optimizer, eqx.filter(network, phase.part(network)))
            for phase in (*self.phases(network), *self.replay_phases())
        }
        optimizer["bonuses"] = {name: unit_moments(()) for name in self._bonus_coefs()}
        replays = self.replayed.objectives.listed()
        return Learner(
            model,
            optimizer,
            empty_trials(self.replayed.capacity, spec, with_tasks=decodes_tasks(replays))
            if replays
            else None,
        )

    def listed(self) -> tuple[AbstractObjective, ...]:
        """Return every objective that counts, those of stored trials last."""
        return *self.objectives.listed(), *self.replayed.objectives.listed()

    def _bonus_coefs(self) -> dict[str, float]:
        """Return the weight of every bonus that is paid, by its objective's name."""
        weights = {type(term).__name__: term.bonus_weight() for term in self.listed()}
        return {name: weight for name, weight in weights.items() if weight}

    def update(
        self, learner: Learner, trial: Trial, *, env_steps: Float[jax.Array, ""], key: PRNGKey
    ) -> tuple[Learner, Metrics]:
        """Return the learner after `num_passes` over a trial, and the passes' mean metrics.

        Objectives that descend on stored trials do so last.
        """
        model: Model = learner.model
        rows = jax.tree.map(jnp.asarray, trial.rows).flatten_time()
        elapsed = self.optimizer.elapsed(env_steps)
        bonus, bonuses, model = self.bonus(
            model,
            rows,
            learner.optimizer["bonuses"],
            elapsed,
            key=jax.random.fold_in(key, BONUS_KEY),
        )
        credit = self.credit(model, rows, bonus)
        task = task_numbers(trial.task) if decodes_tasks(self.listed()) else None
        chunks = self.chunk(model, rows, credit, task, key=jax.random.fold_in(key, CHUNK_KEY))
        size = max(self.minibatch_size // chunks.token.shape[1], 1)
        passes = Passes(self.num_passes, size, self.stop_kl, self.target_kl)
        work = [(phase, chunks, passes) for phase in self.phases(model.network)]
        stored = learner.store
        if self.replay_phases():
            stored = store(stored, rows, None if stored.task is None else task)
            chunks = self.replay(model, stored, key=jax.random.fold_in(key, REPLAY_KEY))
            passes = Passes(1, self.replayed.num_trials, 0.0, 0.0)
            work += [(phase, chunks, passes) for phase in self.replay_phases()]
        optimizer: dict[str, Any] = {"bonuses": bonuses}
        network, metrics = model.network, {}
        for number, (phase, chunks, passes) in enumerate(work):
            params, rest = eqx.partition(network, phase.part(network))
            params, optimizer[phase.name], phase_metrics = descend(
                lambda params, chunks, phase=phase, rest=rest: phase.loss(
                    eqx.combine(params, rest), chunks, elapsed
                ),
                params,
                learner.optimizer[phase.name],
                chunks,
                phase.optimizer,
                passes,
                env_steps=env_steps,
                key=jax.random.fold_in(key, number),
            )
            network = eqx.combine(params, rest)
            metrics = phase_metrics | metrics
        metrics["explained_variance"] = explained_variance(
            credit.value_target, rows.decision.value, credit.credited
        )
        model = _add_moments(replace(model, network=network), rows, credit.discount)
        return Learner(model, optimizer, stored), metrics

    def phases(self, network: Network) -> tuple[Phase, ...]:
        """Return the descents on the trial at hand, in order."""
        terms = Surrogate(self.clip), *self.objectives.listed()
        everything = lambda network: network
        if isinstance(self.value, Joint):
            terms += (Value(self.value.coef, self.value_error),)
            return (Phase("policy", terms, everything, self.optimizer),)
        policy = lambda n: (n.core, n.readout, n.policy, n.heads)
        read = {"feature": everything, "token": lambda n: n.critic}[network.value_input]
        value = (Value(1.0, self.value_error),)
        return (
            Phase("policy", terms, policy, self.optimizer),
            Phase("value", value, read, self.value.optimizer),
        )

    def replay_phases(self) -> tuple[Phase, ...]:
        """Return the descents on stored trials: the shared one, and those with their own steps."""
        terms = self.replayed.objectives.listed()
        shared = tuple(term for term in terms if term.own_optimizer() is None)
        phases = [reaching("replay", shared, self.replayed.optimizer)] if shared else []
        for term in terms:
            if own := term.own_optimizer():
                phases.append(reaching(type(term).__name__, (term,), own))
        return tuple(phases)

    def bonus(
        self,
        model: Model,
        rows: Trajectory,
        moments: dict[str, Moments],
        elapsed: Float[jax.Array, ""],
        *,
        key: PRNGKey,
    ) -> tuple[Float[jax.Array, "T B"], dict[str, Moments], Model]:
        """Return the bonus of rows `[T, B]`, and their moments and the model with the rows added.

        Each bonus is divided by the running deviation of its own discounted sum, which `moments`
        hold by objective, and falls in a line to zero at the end of the step size's decay (Zintgraf
        et al., 2021). In the model the rows are added to what objectives keep of them.
        """
        total, coefs = jnp.zeros(rows.valid.shape), self._bonus_coefs()
        if not coefs:
            return total, moments, model
        chunks = gather(model, rows, self.listed(), key=key)
        network = model.network
        reading = network.read(None, chunks.token, chunks.start, chunks.valid)
        heads = dict(network.heads)
        for term in self.listed():
            name = type(term).__name__
            paid = term.bonus(network, reading, chunks) if name in coefs else None
            if paid is None:
                continue
            paid = jnp.where(rows.valid, paid, 0.0)
            discount = jnp.full(rows.valid.shape, self.gamma)
            sums = _returns(paid, discount, rows.valid)
            moments = moments | {name: add(moments[name], sums.reshape(-1), rows.valid.reshape(-1))}
            total = total + (1.0 - elapsed) * coefs[name] * scale(moments[name], paid)
            heads[name] = term.observed(network, reading, chunks)
        return total, moments, replace(model, network=replace(network, heads=heads))

    def credit(self, model: Model, rows: Trajectory, bonus: Any = 0.0) -> Credit:
        """Return what the actions of rows `[T, B]` are to be learned from.

        `bonus` `[T, B]` is added to the scaled rewards.
        """
        outcome, value, reward = rows.outcome, rows.decision.value, rows.outcome.reward
        if self.normalize_reward:
            reward = scale(model.return_moments, reward)
        reward = reward + bonus
        last = rows.valid & (jnp.cumsum(rows.valid, axis=0) == rows.valid.sum(0)[None])
        next_starts = jnp.roll(rows.timestep.episode_start, -1, axis=0).at[-1].set(True)
        ends_episode = outcome.terminated | outcome.truncated | next_starts
        ends = last if self.credit_across_episodes else last | ends_episode
        discount = jnp.where(ends, 0.0, self.gamma ** steps_to_next(rows.valid))
        target = _returns(reward, discount, rows.valid)
        credited = rows.valid
        if self.bootstrap:
            cut = ends & ~outcome.terminated
            reward, credited = jnp.where(cut, value, reward), credited & ~cut
        estimate = jax.vmap(gae, in_axes=(1, 1, 1, 1, None), out_axes=1)
        advantage = estimate(reward, value, discount, rows.valid, self.gae_lambda)
        target = target if self.value_target == "return" else value + advantage
        return Credit(advantage, target, discount, credited)

    def chunk(
        self,
        model: Model,
        rows: Trajectory,
        credit: Credit,
        task: Float[jax.Array, "B P"] | None = None,
        *,
        key: PRNGKey,
    ) -> Chunks:
        """Cut rows `[T, B]` into chunks `[M, C]`, with the memory that each begins with.

        `task` holds the tasks' numbers, where an objective decodes them.
        """
        num_rows = rows.valid.shape[0]
        length = self.chunk_length or num_rows
        if num_rows % length:
            raise TrmrlError(f"chunks of {length} steps do not divide a trial of {num_rows}")
        advantage = credit.advantage
        if self.normalize_advantage:
            advantage = standardize(advantage, credit.credited)
        whole = replace(
            gather(model, rows, self.objectives.listed(), task, key=key),
            advantage=advantage,
            value_target=credit.value_target,
            credited=credit.credited,
        )
        return cut(model.network.core, whole, length)

    def replay(self, model: Model, stored: StoredTrials, *, key: PRNGKey) -> Chunks:
        """Return stored trials for all gradient steps of an update, each a chunk `[M, T]`."""
        draw_key, key = jax.random.split(key)
        rows, task = draw(
            stored, self.replayed.num_updates * self.replayed.num_trials, key=draw_key
        )
        whole = gather(model, rows, self.replayed.objectives.listed(), task, key=key)
        return cut(model.network.core, whole, rows.valid.shape[0])


def _returns(reward: jax.Array, discount: jax.Array, valid: jax.Array) -> jax.Array:
    """Return the discounted return of every row, `[T, B]`, a lane at a time."""
    return jax.vmap(discounted_return, in_axes=1, out_axes=1)(reward, discount, valid)


def _add_moments(model: Model, rows: Trajectory, discount: jax.Array) -> Model:
    """Return the model with the trial's observations (bounded) and returns in its moments."""
    valid = rows.valid.reshape(-1)
    obs = bound(model.obs_moments, rows.timestep.obs.reshape((-1, rows.timestep.obs.shape[-1])))
    sums = _returns(rows.outcome.reward, discount, rows.valid).reshape(-1)
    return replace(
        model,
        obs_moments=add(model.obs_moments, obs, valid),
        return_moments=add(model.return_moments, sums, valid),
    )
