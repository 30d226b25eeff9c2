"""What a memory agent learns, and what it computes for a minibatch: below agents and learners."""

from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from trmrl.nets.core import AbstractCore, Record
from trmrl.nets.embed import token
from trmrl.nets.heads import PolicyHead
from trmrl.nets.linear import MLP
from trmrl.nets.readout import AbstractReadout
from trmrl.ops.normalize import Moments, normalize
from trmrl.types import Array, Memory, Timestep

ValueInput = Literal["feature", "token"]
MemoryScope = Literal["trial", "episode"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Reading:
    """What a network computes for `M` chunks of `C` rows, time first."""

    feature: Float[jax.Array, "C M F"]
    policy: Any  # a distribution (`nets/distributions.py`) at every row
    value: Float[jax.Array, "C M"]


class Critic(eqx.Module):
    """A value per row, and the learned width of its error (used by the gaussian loss alone)."""

    value: MLP
    log_std: Float[jax.Array, ""]


class Network(eqx.Module):
    """Everything that gradients change. `heads` are those of objectives, by the objective's name.

    Policy and value read what the readout gives of the core's feature, `R` numbers, and train the
    core through it; or the value reads the token alone.
    """

    core: AbstractCore
    readout: AbstractReadout
    policy: PolicyHead
    critic: Critic
    heads: dict[str, Any]
    value_input: ValueInput = eqx.field(static=True)

    def value(
        self, read: Float[jax.Array, "*axes R"], tokens: Float[jax.Array, "*axes D"]
    ) -> Float[jax.Array, "*axes"]:
        """Return the value of each row, in the learner's own units."""
        inputs = {"feature": read, "token": tokens}[self.value_input]
        return self.critic.value(inputs)[..., 0]

    def read(
        self,
        memory0: Memory | None,
        tokens: Float[jax.Array, "C M D"],
        start: Bool[jax.Array, "C M"],
        valid: Bool[jax.Array, "C M"],
    ) -> Reading:
        """Return features, policy and value of chunks that begin with `memory0` (None: empty)."""
        _, feature = self.core.unroll(memory0, tokens, start, valid)
        read = self.readout(feature, tokens)
        return Reading(feature, self.policy(read), self.value(read, tokens))


class Model(eqx.Module):
    """Everything acting needs: what learns, and the moments that normalize.

    memory_scope: memory is emptied at the start of every trial, or of every episode.
    """

    network: Network
    obs_moments: Moments
    return_moments: Moments
    memory_scope: MemoryScope = eqx.field(static=True)
    normalize_obs: bool = eqx.field(static=True)

    def shown(self, obs: Float[Array, "*axes D"]) -> Float[Array, "*axes D"]:
        """Return observations as the core is shown them: normalized, or as they are."""
        return normalize(self.obs_moments, jnp.asarray(obs)) if self.normalize_obs else obs

    def tokens(
        self, timestep: Timestep
    ) -> tuple[Float[jax.Array, "*axes D"], Bool[jax.Array, "*axes"]]:
        """Return tokens `[..., D]`, and where memory is emptied before they are taken."""
        start = jnp.asarray(timestep.trial_start)
        if self.memory_scope == "episode":
            start = start | timestep.episode_start
        return token(timestep, self.obs_moments if self.normalize_obs else None, start), start

    def inspect(
        self, memory: Memory, timestep: Timestep
    ) -> tuple[Memory, Float[jax.Array, "B F"], Record]:
        """Take a timestep `[B]` into memory; returns it, its feature and what the core did.

        The same computation as when acting (`AbstractCore.inspect`).
        """
        tokens, start = self.tokens(timestep)
        return self.network.core.inspect(memory, tokens, start)
