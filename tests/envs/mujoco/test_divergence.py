"""A lane whose simulation diverges ends its episode; the others never notice."""
# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled modules carry no type stubs.)

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from trmrl.config import Config
from trmrl.envs import ENVS, make
from trmrl.envs.base import keys_for
from trmrl.envs.mujoco._batch import MAX_DIVERGED, load_model
from trmrl.envs.mujoco._family import MujocoEnvs
from trmrl.envs.mujoco.cheetah import ROBOT, half_cheetah_dir
from trmrl.evaluate import evaluate
from trmrl.run import Run
from trmrl.train import restore, train
from trmrl.types import TrmrlError

HORIZON = 5
BREAKAGES = ["gears", "velocity", "last substep"]


def cheetahs(num_broken=1, gear=1e12):
    """Half-cheetahs, the first of which have gears that no action of theirs leaves stable."""

    def draw(split, num_tasks, key):
        return {"gear": np.where(np.arange(num_tasks) < num_broken, gear, 1.0)}

    def gears(model, tasks):
        return {"actuator_gear": tasks["gear"][:, None, None]}

    def run(tasks, motion):
        return motion.velocity[:, 0] - 0.05 * motion.control_cost()

    spec = dataclasses.replace(half_cheetah_dir().spec, name="unstable", horizon=HORIZON)
    return MujocoEnvs(spec, ROBOT, draw, run, gears, 1)


def begin(envs, num_lanes=3):
    tasks = envs.sample_tasks("train", num_lanes, key=jax.random.key(0))
    return envs.reset(tasks, key=keys_for(tasks, jax.random.key(3)))


def script(num_steps, num_lanes=3):
    noise = np.random.default_rng(7)
    return noise.uniform(-1, 1, (num_steps, num_lanes, 6)).astype(np.float32)


def observed(qpos, qvel):
    """What is observed of a half-cheetah in that state, all of it current."""
    model = load_model("half_cheetah.xml")
    world = mujoco.MjData(model)
    world.qpos[:] = qpos
    mujoco.mj_kinematics(model, world)
    return np.concatenate([qpos[1:], qvel, world.body("torso").xpos]).astype(np.float32)


def same(one, two, lanes=slice(None)):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    return all(np.array_equal(left[lanes], right[lanes]) for left, right in pairs)


def break_last_substep(batch, monkeypatch):
    """As if the first lane overflowed in the last substep, where MuJoCo has not looked yet."""
    physics = batch.step

    def step(ids, nstep):
        physics(ids, nstep=nstep)
        batch.qvel[0, 2] = np.inf

    monkeypatch.setitem(batch.__dict__, "step", step)


@pytest.mark.parametrize("breakage", BREAKAGES)
@pytest.mark.parametrize("when", [0, 2])
def test_a_diverged_lane_ends_and_its_neighbours_go_on(breakage, when, monkeypatch):
    """Compared with the same episode in which all is well, to the bit."""
    actions = script(HORIZON)
    actions[:when, 0] = 0.0  # gears do nothing without
    broken, sound = cheetahs(num_broken=int(breakage == "gears")), cheetahs(num_broken=0)
    (env_state, _), (twin, _) = begin(broken), begin(sound)
    assert not broken.spec.ends_early
    for t, action in enumerate(actions):
        if t == when and breakage == "velocity":
            env_state.lanes.qvel[0] = 1e9
        elif t == when and breakage == "last substep":
            break_last_substep(env_state.lanes._batch, monkeypatch)
        qpos, qvel = env_state.lanes.qpos[0].copy(), env_state.lanes.qvel[0].copy()
        env_state, outcome = broken.step(env_state, action)
        monkeypatch.undo()
        twin, expected = sound.step(twin, action)
        assert same(outcome, expected, lanes=slice(1, None))
        ended = t >= when
        assert outcome.diverged.tolist() == [t == when, False, False]
        assert outcome.terminated.tolist() == [ended, False, False]
        assert outcome.truncated.tolist() == [not ended and t == HORIZON - 1] + 2 * [
            t == HORIZON - 1
        ]
        if ended:
            assert outcome.reward[0] == 0.0
            assert np.array_equal(broken.view(env_state)[0], qpos)  # it is stepped no more
            assert np.array_equal(outcome.next_obs[0], observed(qpos, qvel))
    assert outcome.diverged.dtype == bool and outcome.reward.dtype == np.float32


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_reset_mends_it(breakage, monkeypatch):
    envs = cheetahs(num_broken=int(breakage == "gears"))
    env_state, _ = begin(envs)
    batch = env_state.lanes._batch
    if breakage == "velocity":
        env_state.lanes.qvel[0] = 1e9
    elif breakage == "last substep":
        break_last_substep(batch, monkeypatch)
    assert envs.step(env_state, script(1)[0])[1].diverged[0]
    monkeypatch.undo()
    del env_state
    still, sound = np.zeros((3, 6), np.float32), cheetahs(num_broken=0)
    (again, obs), (twin, expected_obs) = begin(envs), begin(sound)
    assert again.lanes._batch is batch
    assert np.array_equal(obs, expected_obs)
    for _ in range(3):
        (again, outcome), (twin, expected) = envs.step(again, still), sound.step(twin, still)
        assert same(outcome, expected) and not outcome.terminated.any()


def test_a_lane_that_has_diverged_may_be_stepped_again():
    lanes = begin(cheetahs())[0].lanes
    assert lanes.step(script(1)[0]).tolist() == [True, False, False]
    assert not lanes.step(np.zeros((3, 6))).any()
    assert lanes.elapsed().tolist() == [1, 2, 2]


def test_restore_mends_it_too():
    envs, actions = cheetahs(num_broken=0), script(3)
    env_state, _ = begin(envs)
    envs.step(env_state, actions[0])
    saved = env_state.lanes.save()
    expected = env_state.lanes.step(actions[1]), env_state.lanes.save()
    env_state.lanes.restore(saved)
    env_state.lanes.qvel[0] = 1e9
    assert env_state.lanes.step(actions[1]).tolist() == [True, False, False]
    env_state.lanes.restore(saved)
    found = env_state.lanes.step(actions[1]), env_state.lanes.save()
    assert same(found, expected)


@pytest.mark.parametrize(("num_lanes", "allowed"), [(1, 1), (3, 1), (19, 1), (20, 2), (30, 3)])
def test_too_many_are_refused_however_they_come(num_lanes, allowed):
    assert MAX_DIVERGED == 0.1
    envs, still = cheetahs(num_broken=0), np.zeros((num_lanes, 6), np.float32)
    for _ in range(2):  # the count begins anew with the episode
        env_state, _ = begin(envs, num_lanes)
        for lane in range(allowed):
            env_state.lanes.qvel[lane] = 1e9
            assert envs.step(env_state, still)[1].diverged.sum() == 1
    if num_lanes == 1:
        return
    env_state.lanes.qvel[allowed] = 1e9
    expected = f"^unstable: {allowed + 1} of {num_lanes} lanes diverged in one episode, .* 10%$"
    with pytest.raises(TrmrlError, match=expected):
        envs.step(env_state, still)


def test_an_action_that_is_not_a_number_is_refused():
    """It is not the simulation's fault, and no episode's end hides it."""
    envs, action = cheetahs(num_broken=0), script(1)[0]
    action[1, 4] = np.nan
    with pytest.raises(TrmrlError, match=r"^unstable: the action of lane 1 is not a number$"):
        envs.step(begin(envs)[0], action)


def test_who_wraps_these_worlds_passes_it_on():
    """What the delayed cheetah has earned by then is paid, and the oracle shows its task."""
    envs = make("half-cheetah-vel-delayed+task")
    env_state, _ = begin(envs)
    earned = [envs.step(env_state, action) for action in script(2)]
    assert not any(outcome.reward.any() for _, outcome in earned)
    owed = env_state.inner.owed.copy()
    env_state.inner.inner.lanes.qvel[0] = 1e9
    _, outcome = envs.step(env_state, script(1)[0])
    assert outcome.diverged.tolist() == outcome.terminated.tolist() == [True, False, False]
    assert outcome.reward.tolist() == [pytest.approx(owed[0], rel=1e-6), 0.0, 0.0]
    assert np.isfinite(outcome.next_obs).all()


LANES, EPISODES = 20, 2


@pytest.fixture
def config(small_agent, monkeypatch) -> Config:
    """Two updates, and an evaluation after the last, in which two lanes of twenty diverge."""
    monkeypatch.setitem(ENVS, "unstable", lambda: cheetahs(num_broken=2))
    agent = small_agent("gru", chunk_length=0, num_passes=1)
    steps = 2 * LANES * EPISODES * HORIZON
    return Config(
        "unstable", "rl2", "default", agent, env_steps=steps, num_lanes=LANES, eval_tasks=LANES
    )


def test_training_goes_on_and_counts_them(config, tmp_path):
    run = train(config, tmp_path / "run")
    records = run.metrics()
    assert [record["num_diverged"] for record in records] == [2 * EPISODES] * len(records)
    # A diverging lane takes one step in each episode.
    happened = EPISODES * (18 * HORIZON + 2)
    assert [record["env_steps"] for record in records] == [happened, 2 * happened]
    assert all(record["bad_obs"] == 0.0 for record in records)
    assert np.isfinite(records[-1]["test_return"]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(restore(run)[2].learner))


def test_training_where_many_diverge_is_refused(config, tmp_path, monkeypatch):
    monkeypatch.setitem(ENVS, "unstable", lambda: cheetahs(num_broken=3))
    with pytest.raises(TrmrlError, match="^unstable: 3 of 20 lanes diverged in one episode"):
        train(config, tmp_path / "run")
    assert int(restore(Run.open(tmp_path / "run"))[2].updates) == 0


def test_an_evaluation_scores_them_as_they_ended(config):
    """Nothing is earned by a first step that diverges; other tasks' scores are what they were."""
    model = config.agent.init(cheetahs().spec, key=jax.random.key(0)).model
    model = jax.tree.map(jnp.asarray, model)
    found, sound = (
        evaluate(config.agent, model, cheetahs(num_broken=count), num_tasks=LANES)
        for count in (2, 0)
    )
    assert found.returns[:2] == [[0.0] * EPISODES] * 2
    assert found.returns[2:] == sound.returns[2:]
    assert found.experience == [0.0, (18 * HORIZON + 2) / LANES]
