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


@dataclass(frozen=True)
class Solid:
    """A convex body in its own frame: corners in meters, triangles of them, and its color."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]  # counterclockwise from outside
    color: tuple[int, int, int]  # red, green, blue, 0 to 255


class Figure:
    """The visible solids of a model, and where joint positions put them. A mutable handle."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model, self._data = model, mujoco.MjData(model)
        corners = {
            geom: points
            for geom in range(model.ngeom)
            if (points := _corners(model, geom)) is not None
        }
        self._geoms = list(corners)
        colors = (255 * model.geom_rgba[:, :3]).astype(int).tolist()
        self.solids = [_solid(corners[geom], colors[geom]) for geom in self._geoms]
        position, rotation = self.place(model.qpos0)
        reach = [
            np.linalg.norm(solid.vertices @ turn.T + at - self.root(), axis=1).max()
            for solid, at, turn in zip(self.solids, position, rotation, strict=True)
        ]
        self.reach = float(max(reach))  # meters, from the first body to the farthest corner

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


def _solid(corners: Float[np.ndarray, "N 3"], color: list[int]) -> Solid:
    hull = ConvexHull(corners)
    faces, outward = hull.simplices.copy(), hull.equations[:, :3]
    one, two, three = (corners[faces[:, i]] for i in range(3))
    inward = np.einsum("fi,fi->f", np.cross(two - one, three - one), outward) < 0
    faces[inward] = faces[inward][:, ::-1]
    red, green, blue = color
    return Solid(corners, faces, (red, green, blue))


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
    ball = _ball()
    if kind == _GEOM.mjGEOM_SPHERE:
        return size[0] * ball
    if kind == _GEOM.mjGEOM_ELLIPSOID:
        return size * ball
    end = np.sign(ball[:, 2:]) * [[0.0, 0.0, size[1]]]
    if kind == _GEOM.mjGEOM_CAPSULE:
        return size[0] * ball + end
    if kind == _GEOM.mjGEOM_CYLINDER:
        rim = ball * [1.0, 1.0, 0.0]
        radius = np.linalg.norm(rim, axis=1, keepdims=True)
        return size[0] * rim / radius + end
    return None


def _ball() -> Float[np.ndarray, "N 3"]:
    """Return points of the unit sphere on rings, none of them at a pole or on the equator."""
    polar, around = np.meshgrid(
        np.pi * (np.arange(8) + 0.5) / 8, 2 * np.pi * np.arange(16) / 16, indexing="ij"
    )
    ring = np.sin(polar)
    points = np.stack([ring * np.cos(around), ring * np.sin(around), np.cos(polar)], axis=-1)
    return points.reshape(-1, 3)
