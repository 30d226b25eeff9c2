"""Worlds of Python objects: lanes on their own, in this process and in others."""

import gc
import importlib.util
import os
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from trmrl.envs.base import keys_for
from trmrl.envs.python import Pool, PythonEnvs
from trmrl.types import Discrete, EnvSpec, TrmrlError, replace

HAS_RAY = importlib.util.find_spec("ray") is not None
HORIZON = 4
QUIT = 99  # a task that ends the process it is in


class Countdown:
    """It counts down from the task, paid by 1 + seed % 7 a step, and breaks if stepped below zero.

    Terminated at zero; cut off at -1, which a task of 0 begins with.
    """

    made = 0

    def __init__(self):
        Countdown.made += 1

    def reset(self, task, seed):
        assert seed == int(seed) and 0 <= seed < 2**31
        if int(task["left"]) == QUIT:
            os._exit(1)
        self.left, self.pay = int(task["left"]), 1.0 + seed % 7
        return np.asarray([self.left, os.getpid()], np.float32)

    def step(self, action):
        if self.left <= 0 and self.pay:
            raise RuntimeError("stepped after its end")
        self.left -= int(action)
        obs = np.asarray([self.left, os.getpid()], np.float32)
        return obs, self.pay, self.left == 0, self.left < 0, self.left == 0


def draw(split, num_tasks, noise):
    assert split in ("train", "test")
    return {"left": noise.integers(2, 9, num_tasks)}


def make_envs(num_processes=0, ends_early=True, make_lane=Countdown, ray_address=""):
    spec = EnvSpec(
        "countdown", "own", 2, Discrete(3), HORIZON, 2, ends_early=ends_early, has_success=True
    )
    pool = Pool("countdown", make_lane, num_processes, ray_address)
    return PythonEnvs(spec, pool, draw, ("left", "process"))


def played(envs, left, actions, seed=0):
    """The first observation and the outcomes of an episode."""
    tasks = {"left": np.asarray(left, np.int32)}
    env_state, first = envs.reset(tasks, key=keys_for(tasks, jax.random.key(seed)))
    first, outcomes = first.copy(), []
    for action in actions:
        env_state, outcome = envs.step(env_state, np.asarray(action, np.int32))
        outcomes.append(jax.tree.map(np.copy, outcome))
    return first, outcomes


def check_ends(envs):
    """Lane 0 ends at step 2, lane 1 is cut at step 1, the others are at the end of their slots."""
    ones = [[1, 2, 1, 1]] * HORIZON
    first, outcomes = played(envs, [2, 1, 7, 4], ones)
    np.testing.assert_array_equal(first[:, 0], [2, 1, 7, 4])
    left = np.stack([outcome.next_obs[:, 0] for outcome in outcomes])
    np.testing.assert_array_equal(
        left, [[1, -1, 6, 3], [0, -1, 5, 2], [0, -1, 4, 1], [0, -1, 3, 0]]
    )
    flags = [(o.terminated.tolist(), o.truncated.tolist()) for o in outcomes]
    no = False
    assert flags == [
        ([no, no, no, no], [no, True, no, no]),
        ([True, True, no, no], [no, no, no, no]),
        ([True, True, no, no], [no, no, no, no]),
        ([True, True, no, True], [no, no, True, no]),
    ]
    paid = np.stack([outcome.reward for outcome in outcomes])
    np.testing.assert_array_equal(
        paid > 0, [[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]]
    )
    assert paid.dtype == np.float32 and len(np.unique(paid[0])) > 1  # each lane has a seed
    succeeded = [outcome.success.tolist() for outcome in outcomes]
    assert succeeded[1] == [True, no, no, no] and succeeded[3] == [no, no, no, True]
    return first, outcomes


def test_lanes_end_on_their_own_and_are_then_left_alone():
    check_ends(make_envs())


def test_lanes_in_processes_give_the_same():
    check_processes(make_envs(num_processes=2))


@pytest.mark.full  # Ray takes most of a minute to start and stop
@pytest.mark.skipif(not HAS_RAY, reason="Ray (trmrl[sweep]) is not installed")
@pytest.mark.filterwarnings("ignore")  # of Ray's own
def test_lanes_in_a_ray_cluster_give_the_same(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # it stays on the loopback
    import ray

    with pytest.raises(TrmrlError, match="there is no Ray cluster at 'auto'"):
        played(make_envs(num_processes=1, ray_address="auto"), [3], [])
    path = {"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}}
    ray.init(address="local", num_cpus=2, include_dashboard=False, runtime_env=path)
    try:
        check_processes(make_envs(num_processes=2, ray_address="auto"))
    finally:
        ray.shutdown()


class FakeRay:
    """As much of Ray as lanes use, in this process: an actor's death is an exception of `get`."""

    class exceptions:
        class RayError(Exception):
            pass

    def __init__(self):
        self.asked_for, self.killed = [], []

    def is_initialized(self):
        return bool(self.asked_for)

    def init(self, address, **options):
        if address != "auto":
            raise ConnectionError
        self.asked_for.append(address)

    def remote(self, **options):
        assert options == {"num_cpus": 1, "runtime_env": {"env_vars": {"JAX_PLATFORMS": "cpu"}}}
        return lambda kind: SimpleNamespace(remote=lambda server: self.handle(kind(server)))

    def handle(self, actor):
        later = lambda request: lambda: actor.answer(request)
        return SimpleNamespace(answer=SimpleNamespace(remote=later), actor=actor)

    def get(self, answer):
        if self.killed:
            raise self.exceptions.RayError
        return answer()

    def kill(self, handle):
        self.killed.append(handle)


def test_lanes_in_actors_are_asked_as_processes_are(monkeypatch, capsys):
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    with pytest.raises(TrmrlError, match="countdown: there is no Ray cluster at '10.0.0.1:6379'"):
        played(make_envs(num_processes=1, ray_address="10.0.0.1:6379"), [3], [])
    envs = make_envs(num_processes=2, ray_address="auto")
    check_ends(envs)
    assert fake.asked_for == ["auto"]
    with pytest.raises(TrmrlError, match="^countdown: in a worker process, ValueError"):
        tasks = {"left": np.asarray(["x"] * 4)}
        envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))
    capsys.readouterr()
    gc.collect()
    envs.pool.unused[4].clear()  # nobody has these lanes any more
    gc.collect()
    assert len(fake.killed) == 2
    with pytest.raises(TrmrlError, match="countdown: a worker process ended"):
        played(envs, [3] * 4, [])
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(TrmrlError, match=r"lanes on Ray need it: pip install 'trmrl\[sweep\]'"):
        played(make_envs(num_processes=1, ray_address="auto"), [3], [])


def check_processes(envs):
    """Two processes of two lanes each, and what becomes of errors in them."""
    first, outcomes = check_ends(envs)
    pids = first[:, 1].tolist()
    assert pids[0] == pids[1] != pids[2] == pids[3]
    assert os.getpid() % 2**24 not in [pid % 2**24 for pid in pids]
    here = played(make_envs(), [2, 1, 7, 4], [[1, 2, 1, 1]] * HORIZON)[1]
    for one, other in zip(outcomes, here, strict=True):
        np.testing.assert_array_equal(one.reward, other.reward)
    # A lane that fails is one line, and so is a process that ends.
    with pytest.raises(TrmrlError, match="^countdown: in a worker process, ValueError"):
        tasks = {"left": np.asarray(["x"] * 4)}
        envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))
    with pytest.raises(TrmrlError, match="countdown: a worker process ended"):
        played(envs, [QUIT] * 4, [])
    assert not envs.pool.unused[4]  # what failed so is not used again


def test_processes_need_what_they_can_import():
    with pytest.raises(TrmrlError, match="must be functions of a module, not lambdas"):
        played(make_envs(num_processes=1, make_lane=lambda: Countdown()), [3], [])


def test_lanes_are_made_once_and_never_shared():
    envs, before = make_envs(), Countdown.made
    tasks = {"left": np.asarray([5, 5], np.int32)}
    keys = keys_for(tasks, jax.random.key(0))
    one, _ = envs.reset(tasks, key=keys)
    other, _ = envs.reset(tasks, key=keys)
    assert Countdown.made == before + 4
    envs.step(one, np.asarray([2, 1]))
    _, outcome = envs.step(other, np.asarray([1, 1]))
    np.testing.assert_array_equal(outcome.next_obs[:, 0], [4, 4])
    del one, other
    gc.collect()
    replace(envs, spec=replace(envs.spec, num_episodes=5)).reset(tasks, key=keys)
    assert Countdown.made == before + 4


def test_an_early_end_must_be_announced():
    with pytest.raises(TrmrlError, match="countdown: lane 1 ended at step 2 of 4"):
        played(make_envs(ends_early=False), [7, 2], [[1, 1]] * 2)
    played(make_envs(ends_early=False), [7, 4], [[1, 1]] * 4)  # at the end of the slot it may


def test_tasks_come_from_the_key_in_32_bits():
    envs = make_envs()
    drawn = [envs.sample_tasks("train", 20, key=jax.random.key(seed)) for seed in (0, 0, 1)]
    assert drawn[0]["left"].dtype == np.int32
    np.testing.assert_array_equal(drawn[0]["left"], drawn[1]["left"])
    assert not np.array_equal(drawn[0]["left"], drawn[2]["left"])
    with pytest.raises(TrmrlError, match="has no split 'ood'"):
        envs.sample_tasks("ood", 2, key=jax.random.key(0))
    wrong = replace(envs, draw=lambda split, num_tasks, noise: {"left": noise.uniform(size=3)})
    with pytest.raises(TrmrlError, match="tasks need a leading axis of 20"):
        wrong.sample_tasks("train", 20, key=jax.random.key(0))


def test_a_drawing_has_what_the_lanes_observe():
    envs = make_envs()
    tasks = {"left": np.asarray([5, 3], np.int32)}
    env_state, first = envs.reset(tasks, key=keys_for(tasks, jax.random.key(0)))
    np.testing.assert_array_equal(envs.view(env_state), first)
    assert envs.obs_names == ("left", "process")
