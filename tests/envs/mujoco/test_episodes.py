"""Every world gives what a plain `mj_step` loop gives, written here a second time."""
# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled modules carry no type stubs.)

import dataclasses
from importlib import resources

import jax
import mujoco
import numpy as np
import pytest

from trmrl.envs import ENVS, make
from trmrl.envs.base import keys_for

B, STEPS = 3, 60


def x_of(model, world):
    return world.qpos[:1].copy()


def xy_of(model, world):
    return world.qpos[:2].copy()


def center_of_mass(model, world):
    return (model.body_mass[:, None] * world.xipos).sum(0)[:2] / model.body_mass.sum()


def observe_cheetah(world):
    return [world.qpos[1:], world.qvel, world.body("torso").xpos]


def observe_ant(world):
    return [world.qpos[2:], world.qvel]


def observe_planar(world):
    return [world.qpos[1:], np.clip(world.qvel, -10, 10)]


def observe_humanoid(world):
    inertia, velocity = world.cinert[1:].ravel(), world.cvel[1:].ravel()
    return [world.qpos[2:], world.qvel, inertia, velocity, world.qfrc_actuator[6:]]


def cripple(model, task):
    (dead,) = np.flatnonzero(task["strength"] == 0.0)
    model.actuator_gear[dead, 0] = 0.0


def load(model, task):
    torso = model.body("torso").id
    model.body_mass[torso] *= float(task["mass"])
    model.body_inertia[torso] *= float(task["mass"])
    model.dof_damping[:] *= float(task["damping"])
    model.geom_friction[:] *= float(task["friction"])


def remake(model, task):
    for field in ("body_mass", "body_inertia", "dof_damping", "geom_friction"):
        getattr(model, field)[:] *= task[field].astype(np.float64)


@dataclasses.dataclass
class Case:
    file: str
    frame_skip: int
    observe: object
    where: object
    reward: object  # of task, velocity, place, sum of squares of the control
    limit: float = 1.0  # of the motors: the control of an action of 1
    fallen: object = lambda qpos: False
    change: object = lambda model, task: None
    scale: float = 1.5
    tasks: object = lambda tasks: tasks  # which of those drawn are tried
    x: float = 0.0  # how far along x an episode begins, beside the noise


def rand_params_reward(task, v, place, square):
    return v[0] + 1.0 - 0.001 * square


def heading_reward(task, v, place, square):
    return v @ task["heading"].astype(np.float64) - 0.5 * square + 1.0


def run_reward(task, v, place, square):
    return v[0] - 0.05 * square


def find_reward(task, v, place, square):
    distance = np.hypot(*(place - task["goal"].astype(np.float64)))
    return (1.0 - distance if distance <= 0.75 else -0.75) - 0.01 * square


def ant_fallen(qpos):
    return qpos[2] < 0.2 or qpos[2] > 1.0


ANT_DIR = Case("ant.xml", 5, observe_ant, xy_of, heading_reward, fallen=ant_fallen)
CASES = {
    "half-cheetah-crippled": Case(
        "half_cheetah.xml", 5, observe_cheetah, x_of, run_reward, change=cripple
    ),
    "half-cheetah-payload": Case(
        "half_cheetah.xml", 5, observe_cheetah, x_of, run_reward, change=load
    ),
    "half-cheetah-dir-sparse": Case(
        "half_cheetah.xml",
        5,
        observe_cheetah,
        x_of,
        lambda task, v, place, square: (
            float(abs(place[0]) >= 5.0) * task["direction"] * v[0] - 0.05 * square
        ),
        x=5.0,
    ),
    "ant-dir": ANT_DIR,
    "ant-dir-radian": ANT_DIR,
    "ant-goal": Case(
        "ant.xml",
        5,
        lambda world: [world.qpos, world.qvel],
        xy_of,
        lambda task, v, place, square: (
            -abs(place[0] - task["goal"][0]) - abs(place[1] - task["goal"][1]) - 0.1 * square
        ),
    ),
    "ant-goal-sparse": Case(
        "ant.xml",
        5,
        lambda world: [world.qpos, world.qvel],
        xy_of,
        find_reward,
        tasks=lambda tasks: {"goal": np.array([[0.7, 0.2], [0.3, 0.0], [2.0, 1.0]], np.float32)},
    ),
    "humanoid-dir": Case(
        "humanoid.xml",
        5,
        observe_humanoid,
        center_of_mass,
        # A quarter of the way in 0.015 s, over 0.003 s.
        lambda task, v, place, square: (
            0.25 * (v @ task["heading"].astype(float)) * 0.015 / 0.003 - 0.1 * square + 5.0
        ),
        limit=0.4,
        fallen=lambda qpos: not 1.0 <= qpos[2] <= 2.0,
    ),
    "walker-rand-params": Case(
        "walker2d.xml",
        5,
        observe_planar,
        x_of,
        rand_params_reward,
        fallen=lambda qpos: not (0.8 < qpos[1] < 2.0 and -1.0 < qpos[2] < 1.0),
        change=remake,
    ),
    "hopper-rand-params": Case(
        "hopper.xml",
        4,
        observe_planar,
        x_of,
        rand_params_reward,
        fallen=lambda qpos: not (qpos[1] > 0.7 and abs(qpos[2]) < 0.2),
        change=remake,
        scale=0.4,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_episode_equals_a_plain_loop(name):
    case, envs = CASES[name], make(name)
    envs = dataclasses.replace(envs, spec=dataclasses.replace(envs.spec, horizon=STEPS))
    tasks = case.tasks(envs.sample_tasks("train", B, key=jax.random.key(4)))
    size = envs.spec.action_space.size
    actions = np.random.default_rng(7).uniform(-case.scale, case.scale, (STEPS, B, size))
    actions = actions.astype(np.float32)
    env_state, obs = envs.reset(tasks, key=keys_for(tasks, jax.random.key(3)))
    if case.x:
        env_state.lanes.qpos[:, 0] += case.x
        env_state.lanes._batch.forward()
        obs = envs.robot.observe(env_state.lanes)
    start = env_state.lanes.qpos.copy(), env_state.lanes.qvel.copy()
    outcomes = [envs.step(env_state, action)[1] for action in actions]
    xml = resources.files("trmrl.envs.mujoco").joinpath(case.file).read_text()
    ends = []
    for lane in range(B):
        task = jax.tree.map(lambda x, lane=lane: x[lane], tasks)
        model = mujoco.MjModel.from_xml_string(xml)  # islands left on
        world = mujoco.MjData(model)
        case.change(model, task)
        mujoco.mj_setConst(model, world)
        world.qpos[:], world.qvel[:] = start[0][lane], start[1][lane]
        mujoco.mj_forward(model, world)
        observed = lambda world=world: np.concatenate(case.observe(world)).astype(np.float32)
        assert np.array_equal(obs[lane], observed())
        end = None
        for t, outcome in enumerate(outcomes):
            if end is not None:  # nothing happens any more
                assert np.array_equal(outcome.next_obs[lane], observed()), (lane, t)
                assert outcome.reward[lane] == 0.0
                assert outcome.terminated[lane] and not outcome.truncated[lane]
                continue
            before = case.where(model, world)
            control = case.limit * actions[t, lane].astype(np.float64)
            world.ctrl[:] = np.clip(control, -case.limit, case.limit)
            for _ in range(case.frame_skip):
                mujoco.mj_step(model, world)
            after = case.where(model, world)
            velocity = (after - before) / (case.frame_skip * model.opt.timestep)
            square = sum(float(u) ** 2 for u in control)
            reward = case.reward(task, velocity, after, square)
            assert np.array_equal(outcome.next_obs[lane], observed()), (lane, t)
            assert outcome.reward[lane] == pytest.approx(reward, rel=1e-6, abs=1e-5)
            end = t if case.fallen(world.qpos) else None
            assert outcome.terminated[lane] == (end is not None)
            assert outcome.truncated[lane] == (end is None and t == STEPS - 1)
        ends.append(end)
    if name.endswith("-sparse"):  # both sides of its threshold are tried
        near = np.stack([outcome.reward for outcome in outcomes]) > -0.3
        assert near.any() and not near.all()
    never = not envs.spec.ends_early
    assert ends == [None] * B if never else len(set(ends)) > 1, ends


def test_every_world_of_this_family_is_written_twice():
    elsewhere = {"half-cheetah-vel", "half-cheetah-dir", "half-cheetah-vel-delayed"}
    locomotion = {name for name in ENVS if make(name).spec.family == "locomotion"}
    assert locomotion - elsewhere == set(CASES)
