"""What models look like: solids of the right size, in the right place."""

import mujoco
import numpy as np
import pytest

from trmrl.envs.mujoco._batch import load_model
from trmrl.envs.mujoco.geometry import Figure

XML = """<mujoco><worldbody><geom type="plane" size="1 1 1"/>
<body pos="1 2 3"><joint type="hinge" axis="0 1 0"/>
<geom type="sphere" size="0.5" rgba="1 0 0 1"/>
<geom type="box" size="0.1 0.2 0.3" pos="1 0 0"/>
<geom type="capsule" size="0.2 0.5"/>
<geom type="cylinder" size="0.2 0.5"/>
<geom type="ellipsoid" size="0.1 0.2 0.4"/>
<geom type="sphere" size="9" group="3"/>
<geom type="sphere" size="9" rgba="1 1 1 0"/>
</body></worldbody></mujoco>"""
VOLUMES = [
    np.pi * 4 / 3 * 0.5**3,
    8 * 0.1 * 0.2 * 0.3,
    np.pi * (4 / 3 * 0.2**3 + 0.2**2 * 1.0),
    np.pi * 0.2**2 * 1.0,
    np.pi * 4 / 3 * 0.1 * 0.2 * 0.4,
]


@pytest.fixture(scope="module")
def figure():
    return Figure(mujoco.MjModel.from_xml_string(XML))


def test_solids_have_the_volumes_of_their_geoms_and_planes_have_none(figure):
    """By the divergence theorem, which needs every face to look outward."""
    volumes = [
        np.linalg.det(solid.vertices[solid.faces]).sum() / 6 for solid in figure.solids
    ]  # fmt: skip
    np.testing.assert_allclose(volumes, VOLUMES, rtol=0.08)
    assert figure.solids[0].color == (255, 0, 0)


def test_joints_place_them(figure):
    """The hinge turned by a quarter about y: x points down."""
    position, rotation = figure.place(np.array([np.pi / 2, 7.0]))  # whose tail is not used
    np.testing.assert_allclose(figure.root(), [1, 2, 3])
    np.testing.assert_allclose(position[:2], [[1, 2, 3], [1, 2, 2]], atol=1e-12)
    np.testing.assert_allclose(rotation[1] @ [1, 0, 0], [0, 0, -1], atol=1e-12)


def test_its_reach_is_the_farthest_corner(figure):
    assert figure.reach == pytest.approx(np.linalg.norm([1.1, 0.2, 0.3]))


@pytest.mark.parametrize("file", ["half_cheetah.xml", "ant.xml", "humanoid.xml"])
def test_our_robots_have_one(file):
    figure = Figure(load_model(file))
    assert len(figure.solids) >= 8 and 0.3 < figure.reach < 3
