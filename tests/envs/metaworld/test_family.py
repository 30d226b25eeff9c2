"""The worlds: their names, their splits, their clock, and lanes that know nothing of each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import trmrl
from trmrl.agents.base import AbstractAgent, TaskPlan
from trmrl.envs import make
from trmrl.envs.base import keys_for
from trmrl.envs.metaworld._original import load_scene
from trmrl.envs.metaworld.splits import TASK_SEED, draw_goals, swap_goals
from trmrl.evaluate import evaluate
from trmrl.recipes._default import SETTINGS
from trmrl.types import Continuous, Decision, TrmrlError, replace

pytestmark = pytest.mark.metaworld
KEY = jax.random.key(0)


def rows_of(tasks):
    return {tuple(row) for row in tasks["layout"]}


def drawn(name, split, num_tasks=200, seed=0):
    return make(name).sample_tasks(split, num_tasks, key=jax.random.key(seed))


def benchmark(tasks, env=None):
    """The layouts of the benchmark's own task objects."""
    import pickle

    chosen = [task for task in tasks if env is None or task.env_name == env]
    return {tuple(pickle.loads(task.data)["rand_vec"]) for task in chosen}


# ---- names


@pytest.mark.parametrize(
    ("name", "horizon", "sizes"),
    [
        ("ml1-reach", 500, (1, 1)),
        ("ml1-button-press-topdown-wall-h200", 200, (1, 1)),
        ("ml10", 500, (10, 5)),
        ("ml25-h50", 50, (25, 5)),
        ("ml45-h200", 200, (45, 5)),
    ],
)
def test_a_name_is_one_world(name, horizon, sizes):
    envs = make(name)
    assert (len(envs.train), len(envs.test)) == sizes
    spec = envs.spec
    assert (spec.name, spec.horizon, spec.family) == (name, horizon, "manipulation")
    assert (spec.obs_size, spec.action_space, spec.has_success) == (39, Continuous(4), True)
    assert make(name, num_episodes=10).spec.trial_length == 10 * horizon


def test_fifty_tasks_are_worlds_of_one_scene():
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    names = [name.removesuffix("-v3") for name in ALL_V3_ENVIRONMENTS]
    assert len(names) == 50
    from trmrl.envs.metaworld.family import _PATTERN

    for name in names:
        assert _PATTERN.fullmatch(f"ml1-{name}-h200").groups() == (f"ml1-{name}", name, "200")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("ml1-reech", "did you mean ml1-reach"),
        ("ml1-reach-h501", "a horizon of 501, expected 1 to 500"),
        ("ml1-reach-h0", "expected ml1-TASK"),
        ("ml100", "expected ml1-TASK"),
    ],
)
def test_other_names_are_refused(name, complaint):
    with pytest.raises(TrmrlError, match=complaint):
        make(name)


# ---- splits


@pytest.fixture
def without_physics(on_mujoco_4, monkeypatch):
    """Goals do not depend on it, and it takes most of a reset."""
    from metaworld.sawyer_xyz_env import SawyerXYZEnv

    monkeypatch.setattr(
        SawyerXYZEnv, "_reset_hand", lambda self: setattr(self, "init_tcp", self.tcp_center)
    )


def test_ml1_has_the_benchmarks_goals(without_physics):
    """And its test goals are what its next seed trains on: our seed is one for all trainings."""
    import metaworld

    theirs = metaworld.ML1("reach-v3", seed=TASK_SEED)
    other = metaworld.ML1("reach-v3", seed=TASK_SEED + 1)
    assert rows_of(drawn("ml1-reach", "train")) == benchmark(theirs.train_tasks)
    assert rows_of(drawn("ml1-reach", "test")) == benchmark(theirs.test_tasks)
    assert benchmark(theirs.test_tasks) == benchmark(other.train_tasks)


@pytest.mark.full
@pytest.mark.parametrize("name", ["ml10", "ml25", "ml45"])
def test_the_others_have_the_benchmarks_goals(name, without_physics):
    import metaworld

    theirs = getattr(metaworld, name.upper())(seed=TASK_SEED)
    for split, tasks in (("train", theirs.train_tasks), ("test", theirs.test_tasks)):
        goals = draw_goals(getattr(make(name), split), TASK_SEED)
        assert list(goals) == list(dict.fromkeys(task.env_name for task in tasks))
        for env, layouts in goals.items():
            assert {tuple(layout) for layout in layouts} == benchmark(tasks, env)


@pytest.mark.parametrize("seed", [0, 1])
def test_train_and_test_goals_are_fifty_each_and_apart(seed):
    train, test = (drawn("ml1-push", split, 50, seed) for split in ("train", "test"))
    assert len(rows_of(train)) == len(rows_of(test)) == 50  # each of them exactly once
    assert not rows_of(train) & rows_of(test)


def test_registered_ids_train_on_the_test_split_and_ours_do_not(without_physics):
    """`Meta-World/ML1-train` binds its loop's last split; a regression here, a bug there."""
    import gymnasium

    worlds = gymnasium.make_vec(
        "Meta-World/ML1-train", env_name="reach-v3", seed=TASK_SEED, meta_batch_size=1
    )
    registered = benchmark(worlds.get_attr("tasks")[0])
    terminates = worlds.get_attr("terminate_on_success")
    worlds.close()
    assert registered == rows_of(drawn("ml1-reach", "test"))
    assert all(terminates)
    assert registered.isdisjoint(rows_of(drawn("ml1-reach", "train")))


def test_fresh_goals_are_new_and_from_the_same_box():
    train, fresh = (drawn("ml1-push", split) for split in ("train", "fresh"))
    scene = load_scene("push-v3")
    layouts = fresh["layout"]
    assert len(rows_of(fresh)) == 200
    assert not rows_of(fresh) & rows_of(train)
    assert (layouts >= scene.low).all() and (layouts <= scene.high).all()
    assert (np.ptp(layouts, axis=0) >= 0.9 * (scene.high - scene.low)).all()
    far = np.linalg.norm(layouts[:, :2] - layouts[:, 3:5], axis=1)
    assert far.min() >= 0.15  # as the original has it


def test_swapped_goals_are_the_train_goals_of_other_objects():
    goals, swapped = draw_goals(("push-v3",), TASK_SEED)["push-v3"], swap_goals("push-v3", 0)
    number = {tuple(row[:3]): i for i, row in enumerate(goals)}
    place = {tuple(row[3:]): i for i, row in enumerate(goals)}
    pairs = [(number[tuple(row[:3])], place[tuple(row[3:])]) for row in swapped]
    assert len(pairs) >= 45
    assert all(i != j for i, j in pairs)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    assert all(load_scene("push-v3").takes(row) for row in swapped[:3])
    assert "swapped" not in make("ml1-door-open").spec.splits  # its goal is where its door is


def test_a_goal_too_near_its_object_is_refused():
    scene = load_scene("push-v3")
    near = np.array([0.0, 0.7, 0.02, 0.0, 0.8, 0.02])
    assert not scene.takes(near)
    with pytest.raises(TrmrlError, match="SawyerPushEnvV3 refuses the task"):
        scene.start(near.tobytes())


def test_scenes_are_drawn_evenly():
    tasks = drawn("ml10", "test", 12)
    counts = np.unique(tasks["scene"], return_counts=True)[1]
    assert sorted(counts.tolist()) == [2, 2, 2, 3, 3]
    assert tasks["layout"].shape == (12, 6) and tasks["layout"].dtype == np.float64


def test_a_split_it_has_not_is_refused():
    with pytest.raises(TrmrlError, match="ml10 has no split 'swapped'"):
        drawn("ml10", "swapped")


# ---- episodes


def play(envs, tasks, actions):
    env_state, first = envs.reset(tasks, key=keys_for(tasks, KEY))
    outcomes = [envs.step(env_state, action)[1] for action in actions]
    return first, outcomes


def actions_for(num_lanes, num_steps, seed=0):
    noise = np.random.default_rng(seed)
    return noise.uniform(-1.2, 1.2, (num_steps, num_lanes, 4)).astype(np.float32)


def test_lanes_are_independent_and_episodes_repeat():
    """Of several scenes: whatever lanes are beside a lane, and whatever was before."""
    envs, actions = make("ml10-h20"), actions_for(6, 12)
    tasks = envs.sample_tasks("test", 6, key=KEY)
    first, outcomes = play(envs, tasks, actions)
    again, repeated = play(envs, tasks, actions)
    parts = [slice(0, 3), slice(3, 6)]
    halves = [
        play(envs, {name: x[part] for name, x in tasks.items()}, actions[:, part]) for part in parts
    ]
    assert np.array_equal(first, again)
    assert np.array_equal(first, np.concatenate([obs for obs, _ in halves]))
    for t, outcome in enumerate(outcomes):
        for field in ("next_obs", "reward", "success"):
            whole = getattr(outcome, field)
            assert np.array_equal(whole, getattr(repeated[t], field))
            joined = [getattr(rows[t], field) for _, rows in halves]
            assert np.array_equal(whole, np.concatenate(joined)), (field, t)
    assert len(np.unique(outcomes[-1].reward)) == 6


def test_two_episodes_at_once_do_not_share_a_simulation():
    envs, actions = make("ml1-reach-h20"), actions_for(2, 3)
    tasks = envs.sample_tasks("train", 2, key=KEY)
    expected = play(envs, tasks, actions)[1][-1].next_obs
    one, _ = envs.reset(tasks, key=keys_for(tasks, KEY))
    envs.step(one, actions[0])
    other, _ = envs.reset(tasks, key=keys_for(tasks, KEY))
    for action in actions_for(2, 5, seed=1):
        envs.step(other, action)
    for action in actions[1:]:
        _, outcome = envs.step(one, action)
    assert np.array_equal(outcome.next_obs, expected)


def test_the_clock_counts_steps():
    """A start's simulation is at 0.625 s: its time says nothing of the steps."""
    envs = make("ml1-reach-h3")
    tasks = envs.sample_tasks("train", 2, key=KEY)
    start = load_scene("reach-v3").start(tasks["layout"][0].tobytes())
    assert start[0] == pytest.approx(0.625)
    _, outcomes = play(envs, tasks, actions_for(2, 3))
    assert [bool(outcome.truncated.all()) for outcome in outcomes] == [False, False, True]
    assert not any(outcome.terminated.any() for outcome in outcomes)
    assert [outcome.success.dtype for outcome in outcomes] == [bool] * 3


def test_observations_are_the_moment_the_one_before_and_no_goal():
    envs = make("ml1-reach-h20")
    tasks = envs.sample_tasks("train", 2, key=KEY)
    first, outcomes = play(envs, tasks, actions_for(2, 3))
    assert np.array_equal(first[:, :18], first[:, 18:36])
    np.testing.assert_allclose(first[:, 4:6], tasks["layout"][:, :2], atol=1e-6)  # the object
    before = first
    for outcome in outcomes:
        assert np.array_equal(outcome.next_obs[:, 18:36], before[:, :18])
        assert (outcome.next_obs[:, 36:] == 0).all() and outcome.next_obs.dtype == np.float32
        before = outcome.next_obs


def test_actions_are_clipped_and_scaled_in_double_precision():
    envs = make("ml1-reach-h20")
    tasks = envs.sample_tasks("train", 2, key=KEY)
    env_state, _ = envs.reset(tasks, key=keys_for(tasks, KEY))
    lanes = env_state.groups[0][1]
    before = lanes._mocap_pos[:, 0].copy()
    action = np.array([[0.1, 0.7, 0.3, 0.0], [3.0, 0.2, 0.1, -3.0]], np.float32)
    envs.step(env_state, action)
    exact = before + 0.01 * np.clip(action.astype(np.float64), -1, 1)[:, :3]
    low, high = (-0.5, 0.40, 0.05), (0.5, 1, 0.5)
    assert np.array_equal(lanes._mocap_pos[:, 0], np.clip(exact, low, high))
    assert lanes._ctrl[1].tolist() == [-1.0, 1.0]


def test_a_view_is_a_copy_of_every_lanes_pose():
    envs = make("ml10-h20")
    tasks = envs.sample_tasks("test", 3, key=KEY)
    env_state, _ = envs.reset(tasks, key=keys_for(tasks, KEY))
    view = envs.view(env_state)
    which, lanes = env_state.groups[0]
    assert np.array_equal(view["qpos"][which, : lanes.qpos.shape[1]], lanes.qpos)
    lanes.qpos[:] += 1.0
    assert not np.array_equal(view["qpos"][which, : lanes.qpos.shape[1]], lanes.qpos)


@pytest.mark.parametrize("name", ["ml1-reach-h4", "ml10-h4"])
@pytest.mark.parametrize("when", [0, 2])
def test_a_diverged_lane_ends_and_its_neighbors_go_on(name, when, tmp_path, monkeypatch):
    """Compared with the same episode in which all is well, to the bit."""
    monkeypatch.chdir(tmp_path)  # MuJoCo appends its warnings to a file here
    envs = make(name)
    tasks = envs.sample_tasks("train", 4, key=KEY)
    (env_state, last), (twin, _) = (envs.reset(tasks, key=keys_for(tasks, KEY)) for _ in range(2))
    which, lanes = env_state.groups[-1]
    broken = int(which[-1])
    others = np.arange(4) != broken
    for t, action in enumerate(np.random.default_rng(0).uniform(-1, 1, (4, 4, 4))):
        if t == when:
            lanes._batch.bind("qvel")[-1, 0] = 1e9
        (env_state, outcome), (twin, sound) = envs.step(env_state, action), envs.step(twin, action)
        for one, other in zip(jax.tree.leaves(outcome), jax.tree.leaves(sound), strict=True):
            assert np.array_equal(one[others], other[others])
        assert outcome.diverged.tolist() == (~others & (t == when)).tolist()
        assert outcome.terminated.tolist() == (~others & (t >= when)).tolist()
        assert outcome.truncated.tolist() == (others & (t == 3)).tolist()
        if t >= when:
            assert outcome.reward[broken] == 0.0 and not outcome.success[broken]
            assert np.array_equal(outcome.next_obs[broken, :18], last[broken, :18])
        last = outcome.next_obs


def test_where_many_diverge_it_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    envs = make("ml1-reach-h20")
    tasks = envs.sample_tasks("train", 3, key=KEY)
    env_state, _ = envs.reset(tasks, key=keys_for(tasks, KEY))
    env_state.groups[0][1].qpos[1:, 0] = np.nan
    with pytest.raises(TrmrlError, match="^ml1-reach-h20: 2 of 3 lanes diverged in one episode"):
        envs.step(env_state, np.zeros((3, 4), np.float32))


def test_an_action_that_is_not_a_number_names_its_lane():
    envs = make("ml1-reach-h20")
    tasks = envs.sample_tasks("train", 2, key=KEY)
    env_state, _ = envs.reset(tasks, key=keys_for(tasks, KEY))
    action = np.zeros((2, 4), np.float32)
    action[1, 2] = np.nan
    with pytest.raises(TrmrlError, match="reach-v3: the action of lane 1 is not a number"):
        envs.step(env_state, action)


# ---- what originals keep as views of the simulation


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("pick-place-v3", {"init_left_pad", "init_right_pad"}),
        ("basketball-v3", {"init_left_pad", "init_right_pad", "_target_pos"}),
        ("bin-picking-v3", {"init_left_pad", "init_right_pad", "_target_pos"}),
        ("door-lock-v3", {"init_left_pad", "init_right_pad", "obj_init_pos"}),
        ("door-unlock-v3", {"init_left_pad", "init_right_pad", "obj_init_pos"}),
    ],
)
def test_views_of_the_simulation_stay_views(name, attributes):
    assert set(load_scene(name).views) == attributes


# ---- scores


class Reacher(AbstractAgent):
    """Goes to where the goal of the nearest object of a table is; the table is its model."""

    plan: TaskPlan = TaskPlan()

    def init(self, spec, *, key):
        raise NotImplementedError

    def start(self, model, num_lanes):
        return jnp.zeros(num_lanes)

    def act(self, model, memory, timestep, *, explore, key):
        obs = jnp.asarray(timestep.obs)
        away = ((obs[:, None, 4:6] - model[None, :, :2]) ** 2).sum(-1)
        goal = model[away.argmin(1), 3:] + jnp.asarray([[0.0, 0.0, 0.045]], jnp.float32)
        move = jnp.clip(20.0 * (goal - obs[:, :3]), -1.0, 1.0)
        nothing = jnp.zeros_like(memory)
        action = jnp.concatenate([move, nothing[:, None]], axis=1)
        return memory, Decision(action, nothing, nothing)

    def adapt(self, model, memory, episode):
        return memory

    def update(self, learner, trial, *, env_steps, key):
        raise NotImplementedError


def test_swapping_goals_exposes_an_agent_that_memorized_them():
    """It needs no reward for train goals; whoever infers the goal does as well on both splits."""
    envs = make("ml1-reach-h60", num_episodes=1)
    table = jnp.asarray(draw_goals(("reach-v3",), TASK_SEED)["reach-v3"], jnp.float32)
    middle = table.at[:, 3:].set(jnp.asarray([[0.0, 0.85, 0.175]], jnp.float32))

    def success(model, split):
        found = evaluate(Reacher(), model, envs, split=split, num_tasks=25)
        assert found.success_per_episode and len(found.tasks) == 25
        return found.success_per_episode["mean"][0]

    assert success(table, "train") == 1.0
    assert success(table, "swapped") < 0.5
    assert abs(success(middle, "train") - success(middle, "swapped")) < 0.3


class Lane:
    """Worlds as the package's evaluator knows them: lane 0 succeeds at once, lane 1 never does."""

    num_envs = 2

    def get_attr(self, name):
        return {"terminate_on_success": [True] * 2, "task_name": ["SawyerReachEnvV3"] * 2}[name]

    def call(self, name, value):
        pass

    def reset(self):
        self.t = 0
        return np.zeros((2, 39)), {}

    def step(self, actions):
        self.t += 1
        success, truncated = np.array([True, False]), np.array([False, self.t % 500 == 0])
        final = {"episode": {"r": np.zeros(2)}, "success": success}
        return np.zeros((2, 39)), np.zeros(2), success, truncated, {"final_info": final}


def test_the_packages_evaluator_counts_who_ends_first_and_ours_counts_every_task_once():
    """Of two goals one is reached: the truth is one half, its evaluator's answer is one."""
    from types import SimpleNamespace

    from metaworld.evaluation import evaluation

    still = SimpleNamespace(reset=lambda mask: None, eval_action=lambda obs: np.zeros((2, 4)))
    assert evaluation(still, Lane(), num_episodes=3)[0] == 1.0  # pyright: ignore

    envs = make("ml1-reach-h40", num_episodes=1)
    table = jnp.asarray(draw_goals(("reach-v3",), TASK_SEED + 1)["reach-v3"], jnp.float32)
    lost = table.at[:25, 3].set(-0.4)  # half of the test goals are looked for elsewhere
    found = evaluate(Reacher(), lost, envs, split="test", num_tasks=50)
    assert found.success is not None and np.mean(found.success) == 0.5
    assert len(set(map(str, found.tasks))) == 50


# ---- training


def test_the_recipes_know_the_family():
    for agent_name in ("trmrl", "rl2"):
        config = trmrl.recipe("ml1-reach-h200", agent_name)
        assert config.agent.head.init_std == 0.5
        assert config.agent.normalize_obs
        assert 16 <= config.num_lanes <= 32
    assert SETTINGS["manipulation"](make("ml1-reach").spec) != SETTINGS["locomotion"](
        make("ml1-reach").spec
    )


@pytest.mark.full
@pytest.mark.parametrize("agent_name", ["trmrl", "rl2"])
def test_an_agent_trains_on_it(agent_name, tmp_path):
    config = trmrl.recipe("ml1-reach-h5", agent_name, env_steps=40)
    config = replace(config, num_lanes=4, eval_tasks=2, eval_every=40)
    run = trmrl.train(config, tmp_path / "run")
    assert run.metrics()[-1]["updates"] == 1
    assert len(run.metrics()[-1]["test_success"]) == 2
