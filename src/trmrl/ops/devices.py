"""Sharing work among devices (on CPU: one per core, where the program asked for them)."""

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree


def spread(tree: PyTree) -> PyTree:
    """Ask that the leading axis of every array be shared among all devices; values do not change.

    Without effect where there is one device, or more devices than divide the axis.
    """
    devices = jax.devices()
    if len(devices) == 1:
        return tree
    sharding = NamedSharding(Mesh(devices, ("lanes",)), PartitionSpec("lanes"))

    def share(x: jax.Array) -> jax.Array:
        if x.shape[0] % len(devices):
            return x
        return jax.lax.with_sharding_constraint(x, sharding)

    return jax.tree.map(share, tree)
