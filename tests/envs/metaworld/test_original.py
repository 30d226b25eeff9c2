"""Where episodes start, found by the originals' own resets: once, and without repeating them."""

import numpy as np
import pytest

from trmrl.envs.metaworld._original import Scene

pytestmark = pytest.mark.metaworld


@pytest.mark.parametrize(
    ("name", "repeated"),
    [
        ("push-v3", 2),  # each of two passes ends with one step of the hand
        ("door-open-v3", 1 + 50),  # the first pass moves a body, so the second is its own
    ],
)
def test_the_hand_settles_once_and_starts_are_the_same(name, repeated):
    scene, other = Scene(name), Scene(name)
    uniform = np.random.RandomState(3).uniform
    first, second = (scene.draw(uniform).tobytes() for _ in range(2))
    scene.start(first)
    simulate, calls = scene.original.do_simulation, []

    def counted(*args):
        calls.append(args)
        simulate(*args)

    scene.original.do_simulation = counted
    found = scene.start(second)
    assert len(calls) == repeated
    assert np.array_equal(found, other.start(second))
