"""What Meta-World's scenes look like: the arm, what is on the table, and the goal."""
# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled modules carry no type stubs.)

from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float

from trmrl.envs.metaworld._original import load_scene
from trmrl.envs.mujoco.geometry import Figure, Solid, ball, solid

_GOAL = 0, 158, 115  # its color
_GOAL_RADIUS = 0.02  # meters
_UNDER = -0.1  # meters, of the middle of what is under the table, whose top is at 0
_MIDDLE = 0.0, 0.6, 0.0  # of the table


class TableFigure:
    """The solids of a scene and a ball at its goal, looked at as `Figure` says. A mutable handle.

    `names` are those of the scenes by number; `solids` are of the scene that was placed last.
    """

    is_mobile = False
    turn, tilt = 2.6, 0.45
    reach = 0.45  # meters, from the middle to what is worth looking at
    beside = 1.8, 0.0

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._scenes: dict[int, tuple[Any, Figure, list[Solid]]] = {}
        self.solids: list[Solid] = []

    def place(
        self, view: dict[str, np.ndarray]
    ) -> tuple[Float[np.ndarray, "G 3"], Float[np.ndarray, "G 3 3"]]:
        """Return the position (meters) and the rotation of each solid, the goal's ball last."""
        number = int(view["scene"])
        if number not in self._scenes:
            self._scenes[number] = _load(self._names[number])
        model, figure, self.solids = self._scenes[number]
        model.body_pos[:] = view["body_pos"][: model.nbody]
        position, rotation = figure.place(view["qpos"])
        return (
            np.concatenate([position, view["goal"][None]]),
            np.concatenate([rotation, np.eye(3)[None]]),
        )

    def root(self) -> Float[np.ndarray, " 3"]:
        """Return the middle of the table, meters."""
        return np.array(_MIDDLE)


def _load(name: str) -> tuple[Any, Figure, list[Solid]]:
    """Return a scene's model with what is only drawn, which its simulations lack.

    What is under the table is left out.
    """
    model = mujoco.MjModel.from_xml_path(load_scene(name).original.fullpath)
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    model.geom_rgba[data.geom_xpos[:, 2] < _UNDER, 3] = 0.0
    figure = Figure(model)
    return model, figure, [*figure.solids, solid(_GOAL_RADIUS * ball(), _GOAL)]
