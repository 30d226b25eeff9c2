"""What a weighted term of a loss is, and the rows it is computed on.

A term states what it needs of the network (`build`) and of the trial (`targets`), and its loss on a
reading of a minibatch. Whatever it builds is trained by the descent that its loss is part of.
"""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
from jaxtyping import Bool, Float, PyTree, Shaped

from trmrl.learners.descent import OptimizerConfig
from trmrl.nets.core import AbstractCore
from trmrl.nets.heads import HeadConfig
from trmrl.nets.network import Model, Network, Reading
from trmrl.nets.readout import AbstractReadout
from trmrl.settings import AbstractSettings
from trmrl.types import EnvSpec, Metrics, PRNGKey, Trajectory


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Chunks:
    """A trial cut into `M` chunks of `C` rows: chunk first while they are shuffled, `[M, C]`,
    time first as objectives read them, `[C, M]`.

    Of stored trials no row is credited: no action is learned from.
    """

    memory0: Any  # before each chunk's first row, [M, ...]; None where that is always empty
    token: Float[jax.Array, "*axes D"]
    start: Bool[jax.Array, "*axes"]
    valid: Bool[jax.Array, "*axes"]
    action: Shaped[jax.Array, "..."]
    log_prob: Float[jax.Array, "*axes"]
    advantage: Float[jax.Array, "*axes"]
    value_target: Float[jax.Array, "*axes"]
    credited: Bool[jax.Array, "*axes"]  # valid rows whose advantage and value target are known
    targets: dict[str, Any]  # of objectives, by their names
    task: Any = None  # the task's numbers, `[*axes, P]`; None unless an objective decodes them


class AbstractObjective(AbstractSettings):
    """One term of a loss, `weight` times `loss`.

    A subclass states `coef`, its `loss`, and in `reaches` the parts of `Network` that its gradient
    changes: "core", "readout", "policy", "critic", or "head" for what it built itself; a readout
    may stop it on its way to the core. One whose loss compares rows of a trial with each other says
    so in `whole_trials`, and is refused shorter chunks. The rest is optional.
    """

    coef: eqx.AbstractVar[float]
    reaches: ClassVar[tuple[str, ...]]
    whole_trials: ClassVar[bool] = False

    @abc.abstractmethod
    def loss(
        self, network: Network, reading: Reading, chunks: Chunks
    ) -> tuple[Float[jax.Array, ""], Metrics]:
        """Return the term for a minibatch, all time first, and what to log of it."""

    def weight(self, elapsed: Float[jax.Array, ""]) -> Any:
        """Return what the term counts once a share `elapsed` of the step size's decay is over."""
        del elapsed
        return self.coef

    def build(
        self,
        core: AbstractCore,
        readout: AbstractReadout,
        spec: EnvSpec,
        head: HeadConfig,
        *,
        key: PRNGKey,
    ) -> PyTree:
        """Return what it adds to `Network.heads` under its class's name; None if nothing."""
        del core, readout, spec, head, key

    def targets(self, model: Model, rows: Trajectory, *, key: PRNGKey) -> PyTree:
        """Return what its loss compares with, and any noise it needs, leaves `[T, B, ...]`.

        `rows` are what the agent had. The task's own numbers are in `Chunks.task` (`reads_task`).
        """
        del model, rows, key

    def own_optimizer(self) -> OptimizerConfig | None:
        """Return the optimizer of a descent of its own on stored trials; None to share theirs."""
        return None

    def reads_task(self) -> bool:
        """Return whether its loss compares with the task's own numbers."""
        return False

    def bonus_weight(self) -> float:
        """Return what its bonus counts beside rewards; 0 if it has none."""
        return 0.0

    def bonus(
        self, network: Network, reading: Reading, chunks: Chunks
    ) -> Float[jax.Array, "T M"] | None:
        """Return what training pays each row beside its reward, in any unit; None if nothing.

        Credit alone has it: it is in no token, no target and no score. It is asked for where
        `bonus_weight` is not 0.
        """
        del network, reading, chunks

    def observed(self, network: Network, reading: Reading, chunks: Chunks) -> PyTree:
        """Return what it built, with the rows in any moments that it keeps."""
        del reading, chunks
        return network.heads.get(type(self).__name__)
