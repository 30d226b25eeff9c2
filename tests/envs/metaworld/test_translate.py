"""Code over lanes says of each lane what the code it is made from says of it alone."""

import types

import numpy as np
import pytest

from trmrl.envs.metaworld._arrays import NAMES
from trmrl.envs.metaworld._translate import translate_class, translate_functions
from trmrl.types import TrmrlError

B = 64


class Stop:
    """What the originals' base class stands on, and what stands for it over lanes."""

    scale = 2.0


class Base(Stop):
    LIMIT: float = 0.3

    def evaluate_state(self, obs, action):
        raise NotImplementedError

    def caged(self, x, tight=False, loose=False):
        if tight and loose:
            raise ValueError("one of them")
        margin = abs(x) - self.LIMIT
        margin -= 0.1
        grip = min(max(0, margin), 0.5) / 0.5
        if tight:
            grip = (grip + 1) / 2
        return grip


class Toy(Base):
    @property
    def reach(self):
        return self.place[2]

    @staticmethod
    def height(x, y):
        threshold = 0.02 if x > y else 0.2
        if x > threshold:
            floor = np.log(x) + 1.0
        elif y < 0.0:
            floor = 0.5
            if x < -0.5:
                floor += 2.0
        else:
            floor = 0.0
        return floor

    def early(self, x):
        if x < -0.5:
            return -1.0
        y = x * 2
        if y > 1.0:
            if x > 0.8:
                return 5.0
            y = y + 1.0
        return y

    def evaluate_state(self, obs, action):
        reward, success, near = self.compute_reward(obs)
        useless = self.touching
        marks = {"near": near, "success": float(success) or float(obs[2] < -0.9), "t": useless}
        return reward, marks

    def compute_reward(self, obs):
        if self.reward_function_version == "v2":
            assert self.place is not None
            x, y, z = obs[0], obs[1], obs[2]
            if self.first is None:
                self.first = x
            target = self.place.copy()
            target[1] = 0.3
            if 0.0 < z <= 0.5 and not x > 0.6:
                target[0] = y
                x, y = y, x
            distance = float(np.linalg.norm(obs[:3] - target))
            near = distance < 0.9
            grasped = bool(near and (y > 0.0 or z > 0.0))
            reward = self.caged(x, tight=True) + super().caged(obs[0]) * 0.5
            reward += Toy.height(x, z) + self.early(y) + self.reach
            reward += np.linalg.norm(obs[[0, 2]] - np.array([0.1, z])) + self.scale
            reward += sum(float(x - w > 0) for w in (y, z))
            reward += max([w if w > 0 else 0.5 for w in (x, y)])
            return reward, float(grasped) and float(x > self.first), near
        else:
            while True:
                pass


class Over(Stop):
    def __init__(self, place, first=None):
        self.place, self.first, self.reward_function_version = place, first, "v2"


def translated():
    return translate_class(Toy, Over, Stop, {"evaluate_state"}, {})


def alone(place, steps):
    toy = Toy()
    toy.place, toy.first, toy.reward_function_version, toy.touching = place, None, "v2", 0
    return [toy.evaluate_state(obs, None) for obs in steps]


def test_every_lane_is_as_if_alone():
    noise = np.random.default_rng(0)
    place, steps = noise.uniform(-1, 1, (3, B)), noise.uniform(-1, 1, (4, 3, B))
    over = translated()(place)
    with np.errstate(all="ignore"):
        found = [over.evaluate_state(obs, None) for obs in steps]
    marks = []
    for lane in range(B):
        expected = alone(place[:, lane], steps[:, :, lane])
        for (reward, mark), (its_reward, its_mark) in zip(found, expected, strict=True):
            assert reward[lane] == pytest.approx(its_reward, abs=1e-12), lane
            assert bool(mark["success"][lane]) == bool(its_mark["success"])
            marks.append(bool(its_mark["success"]))
            assert set(mark) == {"success"}  # diagnostics are not worked out
    assert 0.1 < np.mean(marks) < 0.9


def test_a_branch_that_no_lane_takes_is_not_run():
    over = translated()(np.zeros((3, 2)))
    assert np.isfinite(over.height(np.array([0.01, -1.0]), np.array([1.0, 1.0]))).all()  # no log(0)
    np.testing.assert_allclose(over.height(np.array([1.0, 1.0]), np.zeros(2)), 1.0)


def test_conditions_on_no_lane_are_plain():
    over = translated()(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="one of them"):
        over.caged(np.zeros(2), tight=True, loose=True)


class Loops(Stop):
    def evaluate_state(self, obs, action):
        for x in obs:
            reward = x
        return reward, {}


def test_what_cannot_be_translated_is_an_error_that_names_it():
    with pytest.raises(TrmrlError, match=r"Loops.evaluate_state cannot be translated.*for x in"):
        translate_class(Loops, Over, Stop, {"evaluate_state"}, {})


def test_functions_of_a_module():
    module = types.ModuleType("curves")
    source = (
        "def curve(x, kind='flat'):\n    if kind == 'flat':\n        return 0.0 * x\n"
        "    elif kind == 'step':\n        return 1.0 if x > 0 else 0.0\n    else:\n"
        "        raise ValueError(kind)\n"
    )
    import linecache

    linecache.cache["curves.py"] = (len(source), None, source.splitlines(True), "curves.py")
    module.__file__ = "curves.py"
    curves = translate_functions(module)
    x = np.array([-1.0, 2.0])
    assert curves.curve(x, "step").tolist() == [0.0, 1.0]
    assert curves.curve(x).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="round"):
        curves.curve(x, "round")


@pytest.mark.parametrize("call", ["np.sort(x)", "np.zeros((2, 2))", "np.linalg.norm(x, ord=1)"])
def test_what_would_mix_lanes_is_refused(call):
    with pytest.raises((NotImplementedError, TypeError)):
        eval(call, {**NAMES, "x": np.ones((3, 2))})


def test_names_join_scalars_and_vectors():
    np_ = NAMES["np"]
    x, vector = np.array([1.0, 2.0]), np.ones((3, 2))
    assert np_.array([x, 0.5]).tolist() == [[1.0, 2.0], [0.5, 0.5]]
    assert np_.hstack((vector, x)).shape == (4, 2)
    assert np_.array([0.25, 1.0, 0.5]).shape == (3, 1)
    assert np_.linalg.norm(vector).tolist() == pytest.approx([3**0.5] * 2)
    assert NAMES["max"](x, 1.5).tolist() == [1.5, 2.0]
    assert NAMES["min"]([x, 1.5]).tolist() == [1.0, 1.5]
    assert NAMES["min"](2, 1) == 1


def test_matrices_become_the_quaternions_of_scipy():
    from scipy.spatial.transform import Rotation

    turns = Rotation.random(4, random_state=np.random.default_rng(0))
    matrices = turns.as_matrix()
    found = NAMES["Rotation"].from_matrix(np.moveaxis(matrices, 0, -1)).as_quat()
    expected = [Rotation.from_matrix(matrix).as_quat() for matrix in matrices]
    assert np.array_equal(found.T, expected)
