"""The door of sequence models: what turns a stream of tokens into what the agent knows now.

Lives here: `AbstractCore` and its configuration. Does not live here: tokens' meaning, or policies.
"""

import abc

import equinox as eqx
import jax
from jaxtyping import Bool, Float

from trmrl.types import Memory, PRNGKey


class AbstractCore(eqx.Module):
    """A memory that can be lived step by step, or replayed many steps at once; both must agree."""

    feature_size: eqx.AbstractVar[int]

    @abc.abstractmethod
    def start(self, num_lanes: int) -> Memory:
        """Return an empty memory, every leaf with leading axis `num_lanes`."""

    @abc.abstractmethod
    def step(
        self, memory: Memory, token: Float[jax.Array, "B D"], start: Bool[jax.Array, " B"]
    ) -> tuple[Memory, Float[jax.Array, "B F"]]:
        """Take one token per lane; `start` empties a lane's memory before its token is taken."""

    @abc.abstractmethod
    def unroll(
        self,
        memory: Memory | None,
        token: Float[jax.Array, "T B D"],
        start: Bool[jax.Array, "T B"],
        valid: Bool[jax.Array, "T B"],
    ) -> tuple[Memory, Float[jax.Array, "T B F"]]:
        """Take `T` tokens per lane, as `T` calls of `step` would; `memory=None` means empty.

        Rows with `valid=False` leave the memory untouched, and their features mean nothing.
        """


class AbstractCoreConfig(eqx.Module):
    """The numbers a core is built from."""

    @abc.abstractmethod
    def build(self, token_size: int, trial_length: int, *, key: PRNGKey) -> AbstractCore:
        """Return a fresh core for tokens `[..., token_size]` and trials of `trial_length` steps."""
