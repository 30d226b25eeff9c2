"""What all cores share: a menu, settings that check themselves, and selecting lanes."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.nets import CORES
from trmrl.nets.core import where_lanes
from trmrl.nets.gtrxl import GTrXLConfig
from trmrl.nets.heads import HeadConfig
from trmrl.nets.transformer import TransformerConfig
from trmrl.settings import limits
from trmrl.types import Continuous, EnvSpec

SPEC = EnvSpec("world", "test", 2, Continuous(1), 5, 2)


def test_lanes_are_selected_in_every_leaf():
    lanes = jnp.array([True, False])
    new = {"length": jnp.array([1, 2]), "rows": jnp.ones((2, 3, 1))}
    old = {"length": jnp.array([7, 8]), "rows": jnp.zeros((2, 3, 1))}
    found = where_lanes(lanes, new, old)
    np.testing.assert_array_equal(found["length"], [1, 8])
    np.testing.assert_array_equal(found["rows"][:, 0, 0], [1.0, 0.0])


@pytest.mark.parametrize("name", CORES)
def test_the_defaults_of_every_core_are_sound(name):
    config = CORES[name]()
    assert config.check(SPEC) is None
    for declared in dataclasses.fields(config):
        low, high = limits(declared)
        value = getattr(config, declared.name)
        assert isinstance(value, str) or low <= value <= high, declared.name


def test_sizes_are_one_or_more():
    for kind in (*CORES.values(), HeadConfig):
        lows = {declared.name: limits(declared)[0] for declared in dataclasses.fields(kind)}
        for name in {"width", "num_heads", "num_layers", "hidden", "filters"} & set(lows):
            assert lows[name] == 1, f"{kind.__name__}.{name}"


@pytest.mark.parametrize("kind", [TransformerConfig, GTrXLConfig])
def test_heads_divide_the_width(kind):
    complaint = kind(width=10, num_heads=4).check(SPEC)
    assert complaint == "num_heads is 4, which does not divide width, 10"
    assert kind(width=12, num_heads=4).check(SPEC) is None


def test_a_window_holds_a_token():
    complaint = TransformerConfig(window=0).check(SPEC)
    assert complaint == 'window is 0, expected 1 or more in context "window"'
    assert TransformerConfig(window=0, context="trial").check(SPEC) is None
