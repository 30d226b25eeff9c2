"""Self-supervision by masked steps: a later memory reconstructs what was hidden of a step.

The masked modelling of language (BERT: Devlin et al., 2019) on trials, as in masked trajectory
models (Wu et al., 2023). Summaries of the TrMRL paper (Melo, 2022) list it as future work.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from trmrl.learners.objectives.base import AbstractObjective, Chunks
from trmrl.nets.core import AbstractCore
from trmrl.nets.embed import token_size
from trmrl.nets.heads import HeadConfig
from trmrl.nets.linear import MLP
from trmrl.nets.network import Model, Network, Reading
from trmrl.nets.readout import AbstractReadout
from trmrl.ops.masked import later_rows, mean, standardize
from trmrl.settings import field
from trmrl.types import Continuous, Discrete, EnvSpec, Metrics, PRNGKey, Space, Trajectory


class Reconstruction(eqx.Module):
    """What stands in a token for what is masked, and a guess at that from a later feature."""

    mask: Float[jax.Array, " P"]  # learned, from zeros; in place of all of a token but its flag
    content: MLP
    space: Space = eqx.field(static=True)

    def hide(
        self, token: Float[jax.Array, "*axes D"], masked: Bool[jax.Array, "*axes"]
    ) -> Float[jax.Array, "*axes D"]:
        """Return tokens whose observation, action and reward are not shown where `masked`."""
        content, flag = token[..., :-1], token[..., -1:]
        mask = jnp.broadcast_to(self.mask, content.shape)
        return jnp.concatenate([jnp.where(masked[..., None], mask, content), flag], axis=-1)

    def __call__(
        self, feature: Float[jax.Array, "*axes F"]
    ) -> tuple[Float[jax.Array, "*axes O"], Float[jax.Array, "*axes A"], Float[jax.Array, "*axes"]]:
        """Return observation, action (logits of choices) and reward, in the units of targets."""
        content = self.content(feature)
        first = content.shape[-1] - 1 - self.space.size
        return content[..., :first], content[..., first:-1], content[..., -1]


class MaskedSteps(AbstractObjective):
    """Self-supervision: the memory `lag` steps after a masked step reconstructs it.

    Of every trial each step is masked with probability `mask_rate`: its observation, the action
    before it and that action's reward give way to a learned vector, and the trial is encoded once
    more. Cores are causal, since they act, so that a masked step's own feature would know the past
    alone, which is what `Prediction` trains; its content is read from the feature `lag` steps
    later, which has both sides: the whole memory before the step, and the `lag` tokens after it.
    What is asked for is thus never in what is read (a test), unless a world's observation repeats
    that of the step before. Acting and PPO's own terms read tokens as they are.

    Errors are half squares of normalized numbers, and the cross entropy of a choice, nats. A step
    counts where the same memory holds both it and the step that is read; where memory began at
    it there is no action and no reward before it.
    """

    reaches: ClassVar[tuple[str, ...]] = ("core", "head")
    whole_trials: ClassVar[bool] = True

    coef: float = field(0.0, low=0)  # 0: nothing is masked
    mask_rate: float = field(0.15, low=0, high=1)  # share of steps (BERT's)
    lag: int = field(1, low=1)  # steps from a masked one to the memory that reconstructs it

    def check(self, spec: EnvSpec) -> str | None:
        """Return a complaint where no step is so long before another."""
        if self.coef and self.lag >= spec.trial_length:
            return f"lag is {self.lag}, expected less than the {spec.trial_length} steps of a trial"
        return None

    def build(
        self,
        core: AbstractCore,
        readout: AbstractReadout,
        spec: EnvSpec,
        head: HeadConfig,
        *,
        key: PRNGKey,
    ) -> Reconstruction:
        """Return the mask and the head that reconstructs."""
        del readout
        size = token_size(spec) - 1
        content = MLP((core.feature_size, *head.hidden, size), key=key)
        return Reconstruction(jnp.zeros(size), content, spec.action_space)

    def targets(
        self, model: Model, rows: Trajectory, *, key: PRNGKey
    ) -> dict[str, Float[jax.Array, "T B *D"] | Bool[jax.Array, "T B"]]:
        """Return which rows are masked, and what tokens hold, rewards by this trial's moments."""
        _, start = model.tokens(rows.timestep)
        return {
            "masked": jax.random.uniform(key, rows.valid.shape) < self.mask_rate,
            "obs": model.shown(rows.timestep.obs),
            "action": rows.timestep.prev_action,
            "reward": standardize(rows.timestep.prev_reward, rows.valid & ~start),
        }

    def loss(
        self, network: Network, reading: Reading, chunks: Chunks
    ) -> tuple[Float[jax.Array, ""], Metrics]:
        """Return the sum of the mean errors of observation, action and reward."""
        del reading  # which is of tokens as they are
        name = type(self).__name__
        targets, head = chunks.targets[name], network.heads[name]
        (obs, action, reward), exists = self.reconstruct(network, chunks)
        counts = targets["masked"] & exists
        follows = counts & ~chunks.start
        square = 0.5 * (obs - targets["obs"]) ** 2
        losses = {
            "masked_obs_loss": mean(square.mean(axis=-1), counts),
            "masked_action_loss": mean(
                ACTION_ERRORS[type(head.space)](action, targets["action"]), follows
            ),
            "masked_reward_loss": mean(0.5 * (reward - targets["reward"]) ** 2, follows),
        }
        return sum(losses.values(), jnp.zeros(())), losses

    def reconstruct(
        self, network: Network, chunks: Chunks
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], Bool[jax.Array, "T M"]]:
        """Return observation, action and reward of every row, from `lag` rows later, `[T, M]`.

        And where there is such a row, of the same memory.
        """
        name = type(self).__name__
        head: Reconstruction = network.heads[name]
        token = head.hide(chunks.token, chunks.targets[name]["masked"])
        _, feature = network.core.unroll(None, token, chunks.start, chunks.valid)
        later, exists = later_rows(chunks.valid, self.lag)
        memory = jnp.cumsum(chunks.start & chunks.valid, axis=0)
        exists = exists & (jnp.take_along_axis(memory, later, axis=0) == memory)
        return head(jnp.take_along_axis(feature, later[..., None], axis=0)), exists


def _squared_error(
    action: Float[jax.Array, "*axes A"], target: Float[jax.Array, "*axes A"]
) -> Float[jax.Array, "*axes"]:
    return 0.5 * ((action - target) ** 2).mean(axis=-1)


def _cross_entropy(
    logits: Float[jax.Array, "*axes A"], target: Float[jax.Array, "*axes A"]
) -> Float[jax.Array, "*axes"]:
    return -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)


ACTION_ERRORS = {Continuous: _squared_error, Discrete: _cross_entropy}  # of encoded actions
