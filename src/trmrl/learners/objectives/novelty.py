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
from trmrl.ops.normalize import Moments, add, normalize
from trmrl.settings import field
from trmrl.types import EnvSpec, Metrics, PRNGKey, replace


class Distillation(eqx.Module):
    """A random network, and one that learns to agree with it where it is trained.

    Both read hyper-states normalized by running moments (Burda et al., 2019). Without, a belief's
    log variances, all far from zero, would be most of what is new at first, and nothing later.
    """

    random: MLP  # never trained
    predictor: MLP
    mean: Float[jax.Array, " S"]  # of hyper-states so far, as are the next two
    variance: Float[jax.Array, " S"]
    count: Float[jax.Array, ""]
    obs: tuple[int, ...] = eqx.field(static=True)  # which numbers of the observation it reads

    def __call__(self, hyper_state: Float[jax.Array, "*axes S"]) -> Float[jax.Array, "*axes"]:
        """Return the squared distance of the two at each row."""
        moments = jax.lax.stop_gradient(self.moments())
        # A fresh belief hardly varies: by its own deviation, whatever comes next would be far off.
        moments = replace(moments, variance=jnp.maximum(moments.variance, 1.0))
        shown = normalize(moments, hyper_state)
        target = jax.lax.stop_gradient(self.random(shown))
        return jnp.sum((self.predictor(shown) - target) ** 2, axis=-1)

    def moments(self) -> Moments:
        """Return the moments that hyper-states are normalized by."""
        return Moments(self.mean, self.variance, self.count)

    def hyper_state(
        self, network: Network, reading: Reading, chunks: Chunks
    ) -> Float[jax.Array, "T M S"]:
        """Return the numbers of the observation, and what policy and value read, at each row."""
        obs = chunks.token[..., jnp.asarray(self.obs)]
        read = network.readout(reading.feature, chunks.token)
        return jax.lax.stop_gradient(jnp.concatenate([obs, read], axis=-1))


class Novelty(AbstractObjective):
    """A network is trained to agree with a random one; where it does not yet, rows are paid more.

    Both read numbers of the observation and what policy and value read, without a gradient. On
    stored trials (`PPO.replayed`) it takes steps of its own, or its gradient's norm would take part
    in clipping others, as it does elsewhere.
    """

    reaches: ClassVar[tuple[str, ...]] = ("head",)

    coef: float = field(0.0, low=0)  # of the error it is trained by (0: neither error nor bonus)
    bonus_coef: float = field(1.0, low=0)  # of the bonus, in deviations of its discounted sum
    obs: tuple[int, ...] = field((), low=0)  # numbers of the observation it reads (none: all)
    hidden: tuple[int, ...] = field((64, 64), low=1)  # units of hidden layers
    size: int = field(32, low=1)  # outputs that are compared
    gain: float = field(3.0, low=0)  # of the random network's weights and biases
    optimizer: OptimizerConfig = OptimizerConfig(1e-3, max_grad_norm=0.0)  # on stored trials

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
        """Return the two networks, Xavier's weights in both, random biases in one."""
        del core, head
        obs = self.obs or tuple(range(spec.obs_size))
        sizes = (len(obs) + readout.size, *self.hidden, self.size)
        random_key, predictor_key, bias_key = jax.random.split(key, 3)
        build = lambda key: MLP(sizes, 1.0, jax.nn.relu, key=key)
        random = _with_biases(build(random_key), key=bias_key)
        return Distillation(
            jax.tree.map(lambda x: self.gain * x, random),
            build(predictor_key),
            jnp.zeros(sizes[0]),
            jnp.ones(sizes[0]),
            jnp.zeros(()),
            obs,
        )

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
        return distillation(distillation.hyper_state(network, reading, chunks))

    def observed(self, network: Network, reading: Reading, chunks: Chunks) -> Distillation:
        """Return the two networks with the rows' hyper-states in the moments they read them by."""
        distillation: Distillation = network.heads[type(self).__name__]
        states = distillation.hyper_state(network, reading, chunks)
        rows = states.reshape((-1, states.shape[-1])), chunks.valid.reshape(-1)
        after = add(distillation.moments(), *rows)
        where = lambda d: (d.mean, d.variance, d.count)
        return eqx.tree_at(where, distillation, (after.mean, after.variance, after.count))


def _with_biases(mlp: MLP, *, key: PRNGKey) -> MLP:
    """Return the network with biases as large as weights, so that it bends everywhere."""
    biases = []
    for number, layer in enumerate(mlp.layers):
        num_inputs, num_outputs = layer.weight.shape
        limit = num_inputs**-0.5
        uniform = jax.random.uniform(
            jax.random.fold_in(key, number), (num_outputs,), minval=-limit, maxval=limit
        )
        biases.append(uniform)
    return eqx.tree_at(lambda m: [layer.bias for layer in m.layers], mlp, biases)
