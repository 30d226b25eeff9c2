"""Self-supervision by the next step: what an action brings, predicted from the feature."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trmrl.learners.objectives.base import AbstractObjective, Chunks
from trmrl.nets.core import AbstractCore
from trmrl.nets.heads import HeadConfig, Predictor
from trmrl.nets.network import Model, Network, Reading
from trmrl.nets.readout import AbstractReadout
from trmrl.ops.masked import mean, standardize
from trmrl.settings import field
from trmrl.types import EnvSpec, Metrics, PRNGKey, Trajectory


class Prediction(AbstractObjective):
    """Self-supervision: the feature and the action taken predict reward and next observation.

    Nothing else of the agent reads the predictions; what they leave is a memory of what actions did
    here before, which a policy's gradient is slow to form where rewards are noisy.
    """

    reaches: ClassVar[tuple[str, ...]] = ("core", "head")

    coef: float = field(0.0, low=0)  # 0: nothing is predicted

    def build(
        self,
        core: AbstractCore,
        readout: AbstractReadout,
        spec: EnvSpec,
        head: HeadConfig,
        *,
        key: PRNGKey,
    ) -> Predictor:
        """Return the head that predicts."""
        del readout
        return Predictor(core.feature_size, spec.obs_size, spec.action_space, head, key=key)

    def targets(self, model: Model, rows: Trajectory, *, key: PRNGKey) -> Float[jax.Array, "T B O"]:
        """Return rewards, by this trial's own moments, and next observations as they are shown."""
        del key
        reward = standardize(rows.outcome.reward, rows.valid)[..., None]
        return jnp.concatenate([reward, model.shown(rows.outcome.next_obs)], axis=-1)

    def loss(
        self, network: Network, reading: Reading, chunks: Chunks
    ) -> tuple[Float[jax.Array, ""], Metrics]:
        """Return half the squared errors of the reward and, on average, of the observation."""
        name = type(self).__name__
        prediction = network.heads[name](reading.feature, chunks.action)
        error = 0.5 * (prediction - chunks.targets[name]) ** 2
        reward = mean(error[..., 0], chunks.valid)
        obs = mean(error[..., 1:].mean(axis=-1), chunks.valid)
        return reward + obs, {"reward_prediction_loss": reward, "obs_prediction_loss": obs}
