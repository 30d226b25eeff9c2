"""VariBAD's objective: a belief at every row explains the whole trial, past and future.

Zintgraf et al., 2020. It needs a readout with a belief (`nets/readout.py`), and whole trials.
"""

from itertools import pairwise
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from trmrl.learners.objectives.base import AbstractObjective, Chunks
from trmrl.nets.core import AbstractCore
from trmrl.nets.decoder import Decoder
from trmrl.nets.distributions import Gaussian
from trmrl.nets.heads import HeadConfig
from trmrl.nets.network import Model, Network, Reading
from trmrl.nets.readout import AbstractReadout, BeliefReadout
from trmrl.ops.masked import later_rows, mean
from trmrl.settings import field
from trmrl.types import EnvSpec, Metrics, PRNGKey, Trajectory, TrmrlError


class ELBO(AbstractObjective):
    """The negative evidence lower bound, textbook scaling.

    Of a trial of `T` rows it is `1 / T^2` times

        sum_t E_{m ~ q_t} sum_i -log p(r_i, o'_i | o_i, a_i, m) + kl_coef KL(q_t || q_{t-1})

    with one `m` at each `t`, and `q_{-1} = N(0, I)`; the factor changes no direction. Its mean is
    over trials. `num_beliefs` rows `t` stand for all others of their strata in the first sum; the
    divergence is taken at every row. Rewards are those of the world. `reward_kind` is "gaussian",
    of unit variance; "symlog", the same of `sign(r) log(1 + |r|)` (Hafner et al., 2023), for
    rewards of several magnitudes; or "bernoulli", where all that is decoded is whether a reward is
    positive. Observations are as shown, of unit variance, on average over their numbers. So are,
    as they stand, the task's own numbers, which with `task_coef` the belief has to explain like
    one step more; they are a target of training, and in no token.
    """

    reaches: ClassVar[tuple[str, ...]] = ("core", "readout", "head")
    whole_trials: ClassVar[bool] = True

    coef: float = field(0.0, low=0)  # 0: no bound
    kl_coef: float = field(0.1, low=0)  # of the divergence, beta
    num_beliefs: int = field(16, low=0)  # rows of a trial whose belief is decoded (0: all)
    reward_coef: float = field(1.0, low=0)  # of the rewards' likelihood
    obs_coef: float = field(0.0, low=0)  # of the next observations' likelihood
    reward_kind: Literal["gaussian", "bernoulli", "symlog"] = "gaussian"
    hidden: tuple[int, ...] = field((64, 32), low=1)  # units of the decoder's hidden layers
    bonus_coef: float = field(0.0, low=0)  # of the belief's error as a bonus (HyperX)
    task_coef: float = field(0.0, low=0)  # of the likelihood of the task's own numbers

    def check(self, spec: EnvSpec) -> str | None:
        """Return a complaint where nobody states how many numbers a task has."""
        if self.coef and self.task_coef and not spec.task_size:
            return (
                f"task_coef is {self.task_coef}, expected 0: the spec of {spec.name} does not say "
                "how many numbers a task has"
            )
        return None

    def build(
        self,
        core: AbstractCore,
        readout: AbstractReadout,
        spec: EnvSpec,
        head: HeadConfig,
        *,
        key: PRNGKey,
    ) -> Decoder:
        """Return the decoder; raises `TrmrlError` where the readout has no belief."""
        del core, head
        if not isinstance(readout, BeliefReadout):
            raise TrmrlError("ELBO needs a readout with a belief, which this agent does not have")
        return Decoder(
            readout.latent,
            spec.obs_size,
            spec.action_space,
            self.hidden,
            spec.task_size if self.task_coef else 0,
            key=key,
        )

    def targets(
        self, model: Model, rows: Trajectory, *, key: PRNGKey
    ) -> dict[str, Float[jax.Array, "T B *D"]]:
        """Return observations as shown, rewards, and the noise of beliefs and of their choice."""
        noise_key, row_key = jax.random.split(key)
        noise_shape = (*rows.valid.shape, _readout(model.network).latent)
        return {
            "obs": model.shown(rows.timestep.obs),
            "reward": rows.outcome.reward,
            "next_obs": model.shown(rows.outcome.next_obs),
            "noise": jax.random.normal(noise_key, noise_shape),
            "number": jax.random.uniform(row_key, rows.valid.shape),
        }

    def loss(
        self, network: Network, reading: Reading, chunks: Chunks
    ) -> tuple[Float[jax.Array, ""], Metrics]:
        """Return the negative bound of whole trials, over `T^2`, and its parts per row."""
        name = type(self).__name__
        targets, decoder = chunks.targets[name], network.heads[name]
        num_rows = chunks.valid.shape[0]
        belief = _readout(network).belief(reading.feature)
        rows, weight = choose_rows(targets["number"], min(self.num_beliefs or num_rows, num_rows))
        take = lambda x: jnp.take_along_axis(x, rows[..., None], axis=0)
        latent = take(belief.mean + jnp.exp(belief.log_std) * targets["noise"])
        decoded = decoder(latent, targets["obs"], chunks.action, targets["next_obs"])
        error = self._errors(decoded, targets)
        error = jnp.where(chunks.valid[None], error, 0.0).sum(axis=1)  # [K, M]: of whole trials
        weight = jnp.where(jnp.take_along_axis(chunks.valid, rows, axis=0), weight[:, None], 0.0)
        if self.task_coef:
            square = 0.5 * (decoder.task(latent) - take(chunks.task)) ** 2
            error = error + self.task_coef * square.mean(axis=-1)
        reconstruction = jnp.sum(weight * error, axis=0).mean() / num_rows**2
        kl = divergences(belief, chunks.start, chunks.valid)
        loss = reconstruction + self.kl_coef * kl.sum(axis=0).mean() / num_rows**2
        return loss, {
            "elbo_loss": loss,
            "reconstruction_loss": reconstruction,
            "belief_kl": mean(kl, chunks.valid),
            "belief_std": jnp.exp(mean(belief.log_std.mean(axis=-1), chunks.valid)),
        }

    def reads_task(self) -> bool:
        """Return whether the belief has to explain the task's own numbers."""
        return self.task_coef > 0

    def bonus_weight(self) -> float:
        """Return what the belief's error counts as a bonus."""
        return self.bonus_coef

    def bonus(self, network: Network, reading: Reading, chunks: Chunks) -> Float[jax.Array, "T M"]:
        """Return each step's error under the mean of the belief that has just taken it in.

        Zintgraf et al., 2021: it stays where the belief has not been trained yet.
        """
        name = type(self).__name__
        # The next row that happened, whose token holds this one's reward; at the end, this row.
        row = jnp.broadcast_to(jnp.arange(len(chunks.valid))[:, None], chunks.valid.shape)
        after, exists = later_rows(chunks.valid, 1)
        after = jnp.where(exists, after, row)
        mean_after = jnp.take_along_axis(
            _readout(network).belief(reading.feature).mean, after[..., None], axis=0
        )
        flat = lambda x: x.reshape((1, -1, *x.shape[2:]))  # each row with its own belief alone
        targets = {name: flat(x) for name, x in chunks.targets[name].items()}
        decoder = network.heads[name]
        decoded = decoder(
            flat(mean_after), targets["obs"], flat(chunks.action), targets["next_obs"]
        )
        return self._errors(decoded, targets).reshape(chunks.valid.shape)

    def _errors(
        self, decoded: Float[jax.Array, "K T M O"], targets: dict[str, jax.Array]
    ) -> Float[jax.Array, "K T M"]:
        """Return the negative log likelihood of each step under each belief, up to a constant."""
        reward, next_obs = targets["reward"][None], targets["next_obs"][None]
        if self.reward_kind == "bernoulli":
            sign = jnp.where(reward > 0, -1.0, 1.0)
            error = self.reward_coef * jax.nn.softplus(sign * decoded[..., 0])
        else:
            if self.reward_kind == "symlog":
                reward = jnp.sign(reward) * jnp.log1p(jnp.abs(reward))
            error = self.reward_coef * 0.5 * (decoded[..., 0] - reward) ** 2
        if self.obs_coef:
            square = 0.5 * (decoded[..., 1:] - next_obs) ** 2
            error = error + self.obs_coef * square.mean(axis=-1)
        return error


def _readout(network: Network) -> BeliefReadout:
    """Return the readout of a network that `build` accepted."""
    assert isinstance(network.readout, BeliefReadout)
    return network.readout


def divergences(
    belief: Gaussian, start: Bool[jax.Array, "T M"], valid: Bool[jax.Array, "T M"]
) -> Float[jax.Array, "T M"]:
    """Return `KL(q_t || q_{t-1})` of beliefs `[T, M, L]`, nats; zero at rows that did not happen.

    `q_{t-1}` is the belief at the row before that happened; at a `start`, and at the first row, the
    prior `N(0, I)`. Gradients reach both.
    """
    num_rows = valid.shape[0]
    row = jnp.where(valid, jnp.arange(num_rows)[:, None], -1)
    before = jnp.roll(jax.lax.cummax(row, axis=0), 1, axis=0).at[0].set(-1)
    first = start | (before < 0)
    index = jnp.maximum(before, 0)[..., None]
    take = lambda x: jnp.where(first[..., None], 0.0, jnp.take_along_axis(x, index, axis=0))
    previous = Gaussian(take(belief.mean), take(belief.log_std))
    return jnp.where(valid, belief.kl(previous), 0.0)


def choose_rows(
    number: Float[jax.Array, "T M"], num_strata: int
) -> tuple[Int[jax.Array, "K M"], Float[jax.Array, " K"]]:
    """Return a row of each stratum, uniform in it, and the number of rows that it stands for.

    Rows are divided into `K` strata of neighbors, as even as can be; the row is that of the largest
    of its stratum's `number`s, which are independent and uniform.
    """
    num_rows = number.shape[0]
    bounds = [num_rows * k // num_strata for k in range(num_strata + 1)]
    pairs = list(pairwise(bounds))
    rows = [low + jnp.argmax(number[low:high], axis=0) for low, high in pairs]
    return jnp.stack(rows), jnp.asarray([float(high - low) for low, high in pairs])
