"""Initial weights: Xavier and T-Fixup.

T-Fixup (Huang et al., ICML 2020) makes a transformer without LayerNorm trainable by scaling its
first weights; TrMRL takes the encoder's rule. `L` is the number of layers, `d` the width.
"""

import jax
from jaxtyping import Float

from trmrl.types import PRNGKey

Matrix = Float[jax.Array, "in out"]


def xavier(in_size: int, out_size: int, gain: float = 1.0, *, key: PRNGKey) -> Matrix:
    """Uniform on `±gain * sqrt(6 / (in + out))` (Glorot and Bengio, 2010)."""
    bound = gain * (6.0 / (in_size + out_size)) ** 0.5
    return jax.random.uniform(key, (in_size, out_size), minval=-bound, maxval=bound)


def t_fixup_projection_gain(num_layers: int) -> float:
    """Gain of every projection in attention and feed-forward blocks: `0.67 * L^(-1/4)`.

    The published code multiplies its stacked query-key-value matrix by a further `sqrt(2)`, which
    undoes the larger fan-out of the stack under Xavier; separate matrices need no such factor.
    """
    return 0.67 * num_layers**-0.25


def t_fixup_embedding_std(width: int, num_layers: int) -> float:
    """Standard deviation of the token embedding: `d^(-1/2) * (9 L)^(-1/4)`."""
    return width**-0.5 * (9.0 * num_layers) ** -0.25
