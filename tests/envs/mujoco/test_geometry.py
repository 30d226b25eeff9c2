"""What models look like: solids of the right size, in the right place."""

import mujoco
import numpy as np
import pytest

from trmrl.envs.mujoco._batch import load_model
from trmrl.envs.mujoco.geometry import Figure, solid

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
        np.linalg.det(one.vertices[one.faces]).sum() / 6 for one in figure.solids
    ]  # fmt: skip
    np.testing.assert_allclose(volumes, VOLUMES, rtol=0.08)
    assert figure.solids[0].color == (255, 0, 0)


def test_points_inside_a_hull_are_left_out():
    cube = np.stack(np.meshgrid(*[[0.0, 1.0]] * 3), axis=-1).reshape(-1, 3)
    found = solid(np.concatenate([[[0.5, 0.5, 0.5]], cube]), (1, 2, 3))
    assert sorted(map(tuple, found.vertices)) == sorted(map(tuple, cube))
    corners = found.vertices[found.faces] - 0.5
    assert (np.linalg.det(corners) > 0).all() and len(found.faces) == 12
    assert np.linalg.det(corners).sum() / 6 == pytest.approx(1.0)


def test_a_geom_without_a_color_has_that_of_its_material():
    """Of a texture, the mean: a checker of black and white is gray."""
    model = mujoco.MjModel.from_xml_string("""<mujoco><asset>
        <texture name="checker" type="2d" builtin="checker" rgb1="0 0 0" rgb2="1 1 1"
            width="8" height="8"/>
        <material name="plain" rgba="0 1 0 1"/>
        <material name="squares" texture="checker" rgba="1 0.5 0 1"/></asset>
        <worldbody><body><geom size="1" material="plain"/><geom size="1" material="squares"/>
        <geom size="1" material="plain" rgba="0 0 1 1"/></body></worldbody></mujoco>""")
    colors = [one.color for one in Figure(model).solids]
    assert colors == [(0, 255, 0), (127, 63, 0), (0, 0, 255)]


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
