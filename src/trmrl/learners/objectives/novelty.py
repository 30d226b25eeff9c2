"""HyperX's novelty bonus: pay for states of knowledge that have hardly been visited.

Zintgraf et al., 2021: random network distillation (Burda et al., 2019) on the hyper-state, which is
the observation together with what is known of the task: the belief, or any agent's feature.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float

from trmrl.learners.descent import OptimizerConfig
from trmrl.learners.objectives.base import AbstractObjective, Chunks
from trmrl.nets.core import AbstractCore
from trmrl.nets.heads import HeadConfig
from trmrl.nets.linear import MLP
from trmrl.nets.network import Network, Reading
from trmrl.nets.readout import AbstractReadout
from trmrl.ops.masked import mean
from trmrl.settings import field
from trmrl.types import EnvSpec, Metrics, PRNGKey


class Distillation(eqx.Module):
    """A random network, and one that learns to agree with it where it is trained."""

    random: MLP  # never trained
    predictor: MLP
    obs: tuple[int, ...] = eqx.field(static=True)  # which numbers of the observation it reads

    def __call__(self, hyper_state: Float[jax.Array, "*axes S"]) -> Float[jax.Array, "*axes"]:
        """Return the squared distance of the two at each row."""
        target = jax.lax.stop_gradient(self.random(hyper_state))
        return jnp.sum((self.predictor(hyper_state) - target) ** 2, axis=-1)


class Novelty(AbstractObjective):
    """A network is trained to agree with a random one; where it does not yet, rows are paid more.

    Both read numbers of the observation and what policy and value read, without a gradient. On
    stored trials (`PPO.replayed`) it descends by itself, slowly: a predictor that learns as fast as
    a belief does leaves nothing novel long before rare rewards are found. Elsewhere its gradient's
    norm would take part in clipping that of the policy.
    """

    reaches: ClassVar[tuple[str, ...]] = ("head",)

    coef: float = field(0.0, low=0)  # of the error it is trained by (0: neither error nor bonus)
    bonus_coef: float = field(
        1.0, low=0
    )  # of the bonus, in units of its discounted sum's deviation
    obs: tuple[int, ...] = field((), low=0)  # numbers of the observation it reads (none: all)
    hidden: tuple[int, ...] = field((64, 64), low=1)  # units of hidden layers
    size: int = field(32, low=1)  # outputs that are compared
    optimizer: OptimizerConfig = OptimizerConfig(1e-4, max_grad_norm=1.0)  # of stored trials

    def check(self, spec: EnvSpec) -> str | None:
        """Return a complaint where observations have no such number."""
        beyond = [i for i in self.obs if i >= spec.obs_size]
        if beyond:
            return f"obs has {beyond[0]}, but observations have {spec.obs_size} numbers"
        return None

    def build(
        self,
        core: AbstractCore,
        readout: AbstractReadout,
        spec: EnvSpec,
        head: HeadConfig,
        *,
        key: PRNGKey,
    ) -> Distillation:
        """Return the two networks, both Xavier."""
        del core, head
        obs = self.obs or tuple(range(spec.obs_size))
        sizes = (len(obs) + readout.size, *self.hidden, self.size)
        random_key, predictor_key = jax.random.split(key)
        build = lambda key: MLP(sizes, 1.0, jax.nn.relu, key=key)
        return Distillation(build(random_key), build(predictor_key), obs)

    def loss(
        self, network: Network, reading: Reading, chunks: Chunks
    ) -> tuple[Float[jax.Array, ""], Metrics]:
        """Return the mean squared distance of the two networks."""
        loss = mean(self.bonus(network, reading, chunks), chunks.valid)
        return loss, {"novelty": loss}

    def own_optimizer(self) -> OptimizerConfig:
        """Return the predictor's."""
        return self.optimizer

    def bonus_weight(self) -> float:
        """Return what novelty counts as a bonus."""
        return self.bonus_coef

    def bonus(self, network: Network, reading: Reading, chunks: Chunks) -> Float[jax.Array, "T M"]:
        """Return the squared distance of the two networks at each row."""
        distillation: Distillation = network.heads[type(self).__name__]
        obs = chunks.token[..., jnp.asarray(distillation.obs)]
        read = network.readout(reading.feature, chunks.token)
        return distillation(jax.lax.stop_gradient(jnp.concatenate([obs, read], axis=-1)))
