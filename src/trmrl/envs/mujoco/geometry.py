"""What a MuJoCo model looks like: solids, and where they are. It needs no graphics library."""
# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled modules carry no type stubs.)

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import ConvexHull

_GEOM = mujoco.mjtGeom
_FIRST_HIDDEN_GROUP = 3  # of geoms: MuJoCo's own viewers leave these out, unless asked
_NO_COLOR = 0.5, 0.5, 0.5, 1.0  # of a geom whose color is not set


@dataclass(frozen=True)
class Solid:
    """A convex body in its own frame: corners in meters, triangles of them, and its color."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]  # counterclockwise from outside
    color: tuple[int, int, int]  # red, green, blue, 0 to 255


class Figure:
    """The visible solids of a model, and where joint positions put them. A mutable handle.

    Of a mesh, the convex hull. It is looked at along a direction that is turned by `turn` from y
    about the vertical and by `tilt` below it, radians, and others stand `beside` it, meters (x, y).
    If it `is_mobile`, it is kept in the middle and the ground moves.
    """

    is_mobile = True
    turn, tilt = 0.25, 0.2

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model, self._data = model, mujoco.MjData(model)
        corners = {
            geom: points
            for geom in range(model.ngeom)
            if (points := _corners(model, geom)) is not None
        }
        self._geoms = list(corners)
        self.solids = [solid(corners[geom], _color(model, geom)) for geom in self._geoms]
        position, rotation = self.place(model.qpos0)
        reach = [
            np.linalg.norm(solid.vertices @ turn.T + at - self.root(), axis=1).max()
            for solid, at, turn in zip(self.solids, position, rotation, strict=True)
        ]
        self.reach = float(max(reach))  # meters, from the first body to the farthest corner
        self.beside = 0.0, 2.5 * self.reach

    def place(
        self, qpos: Float[np.ndarray, " Q"]
    ) -> tuple[Float[np.ndarray, "G 3"], Float[np.ndarray, "G 3 3"]]:
        """Return the position (meters) and the rotation of each solid; `qpos` may have a tail."""
        data = self._data
        data.qpos[:] = qpos[: self._model.nq]
        mujoco.mj_kinematics(self._model, data)
        rotation = data.geom_xmat[self._geoms].reshape(-1, 3, 3)
        return data.geom_xpos[self._geoms].copy(), rotation.copy()

    def root(self) -> Float[np.ndarray, " 3"]:
        """Return where the first body was at the last `place`, meters."""
        return self._data.xpos[1].copy()


def solid(points: Float[np.ndarray, "N 3"], color: tuple[int, int, int]) -> Solid:
    """Return the convex hull of points."""
    hull = ConvexHull(points)
    corners = points[hull.vertices]
    number = np.zeros(len(points), hull.simplices.dtype)
    number[hull.vertices] = np.arange(len(corners))
    faces, outward = number[hull.simplices], hull.equations[:, :3]
    one, two, three = (corners[faces[:, i]] for i in range(3))
    inward = np.einsum("fi,fi->f", np.cross(two - one, three - one), outward) < 0
    faces[inward] = faces[inward][:, ::-1]
    return Solid(corners, faces, color)


def _color(model: mujoco.MjModel, geom: int) -> tuple[int, int, int]:
    """Return a geom's color; if it has none of its own, its material's, of a texture the mean."""
    rgb, material = model.geom_rgba[geom, :3], model.geom_matid[geom]
    if material >= 0 and np.all(model.geom_rgba[geom] == _NO_COLOR):
        rgb = model.mat_rgba[material, :3]
        textures = model.mat_texid[material]
        for texture in textures[textures >= 0]:
            size = model.tex_height[texture] * model.tex_width[texture]
            first, channels = model.tex_adr[texture], model.tex_nchannel[texture]
            pixels = model.tex_data[first : first + size * channels].reshape(-1, channels)
            rgb = rgb * pixels[:, :3].mean(axis=0) / 255
    red, green, blue = (255 * rgb).astype(int).tolist()
    return red, green, blue


def _corners(model: mujoco.MjModel, geom: int) -> Float[np.ndarray, "N 3"] | None:
    """Return points whose convex hull is a geom; None for planes, height fields and hidden ones."""
    if model.geom_group[geom] >= _FIRST_HIDDEN_GROUP or model.geom_rgba[geom, 3] == 0:
        return None
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == _GEOM.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        first = model.mesh_vertadr[mesh]
        return model.mesh_vert[first : first + model.mesh_vertnum[mesh]].astype(np.float64)
    if kind == _GEOM.mjGEOM_BOX:
        return size * np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), axis=-1).reshape(-1, 3)
    points = ball()
    if kind == _GEOM.mjGEOM_SPHERE:
        return size[0] * points
    if kind == _GEOM.mjGEOM_ELLIPSOID:
        return size * points
    end = np.sign(points[:, 2:]) * [[0.0, 0.0, size[1]]]
    if kind == _GEOM.mjGEOM_CAPSULE:
        return size[0] * points + end
    if kind == _GEOM.mjGEOM_CYLINDER:
        rim = points * [1.0, 1.0, 0.0]
        radius = np.linalg.norm(rim, axis=1, keepdims=True)
        return size[0] * rim / radius + end
    return None


def ball() -> Float[np.ndarray, "N 3"]:
    """Return points of the unit sphere on rings, none of them at a pole or on the equator."""
    polar, around = np.meshgrid(
        np.pi * (np.arange(8) + 0.5) / 8, 2 * np.pi * np.arange(16) / 16, indexing="ij"
    )
    ring = np.sin(polar)
    points = np.stack([ring * np.cos(around), ring * np.sin(around), np.cos(polar)], axis=-1)
    return points.reshape(-1, 3)
