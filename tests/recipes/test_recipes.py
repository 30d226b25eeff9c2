"""Every recipe survives JSON and fits its worlds, and `paper` is the published table."""

import json

import pytest

from trmrl import config as configs
from trmrl.envs import ENVS, make
from trmrl.recipes import AGENTS, recipe
from trmrl.recipes._default import SETTINGS, setting_of
from trmrl.types import TrmrlError, replace

ALL = [(agent, name) for agent, recipes in AGENTS.items() for name in recipes]


def known_recipes(agent, name):
    """The recipe for every env that has it."""
    found = []
    for env in (*ENVS, "bandit-n7-k3", "half-cheetah-vel+task"):
        try:
            found.append(recipe(env, agent, name))
        except TrmrlError as error:
            # Every agent has a default for every world whose actions it can take.
            assert name != "default" or "has choices" in str(error), error
    return found


@pytest.mark.parametrize(("agent", "name"), ALL)
def test_a_recipe_survives_json_and_fits_its_world(agent, name):
    configs_of = known_recipes(agent, name)
    assert configs_of
    for config in configs_of:
        again = configs.from_json(json.loads(json.dumps(configs.to_json(config))))
        assert again == config
        assert configs.differences(again, config) == []
        assert (config.agent_name, config.recipe) == (agent, name)
        configs.check(config, make(config.env, config.num_episodes).spec)


@pytest.mark.parametrize(("agent", "name"), ALL)
def test_a_budget_changes_nothing_but_itself_and_the_schedule(agent, name):
    for config in known_recipes(agent, name):
        shorter = recipe(config.env, agent, name, env_steps=1_000)
        assert shorter.env_steps == 1_000
        differ = [line.split(":")[0] for line in configs.differences(config, shorter)]
        follows = "env_steps", "decay_start", "decay_end"
        assert all(field.split(".")[-1] in follows for field in differ)


# The commands released with the paper (Melo, 2022), column by column.
SHARED = {
    "agent.core.kind": "TransformerConfig",
    "agent.core.context": "window",
    "agent.core.window": 5,
    "agent.core.width": 128,
    "agent.core.num_heads": 16,
    "agent.core.num_layers": 4,
    "agent.core.hidden": 512,
    "agent.head.hidden": (64, 64),
    "agent.head.last_gain": 1.0,
    "agent.memory_scope": "episode",
    "agent.normalize_obs": False,
    "agent.algorithm.normalize_reward": False,
    "agent.algorithm.gamma": 0.9,
    "agent.algorithm.gae_lambda": 0.8,
    "agent.algorithm.num_passes": 10,
    "agent.algorithm.minibatch_size": 256,
    "agent.algorithm.chunk_length": 1,
    "agent.algorithm.stop_kl": 0.0,
    "agent.algorithm.objectives.entropy.coef": 0.0,
    "agent.algorithm.normalize_advantage": False,
    "agent.algorithm.value_error": "gaussian",
    "agent.algorithm.value_target": "return",
    "agent.algorithm.credit_across_episodes": True,
    "agent.algorithm.bootstrap": False,
    "agent.algorithm.optimizer.learning_rate": 3e-5,
    "agent.algorithm.optimizer.weight_decay": 0.01,
    "agent.algorithm.optimizer.max_grad_norm": 0.0,
    "agent.algorithm.target_kl": 0.0,
    "agent.algorithm.value.optimizer.weight_decay": 0.01,
    "agent.algorithm.value.optimizer.max_grad_norm": 0.0,
    "num_lanes": 20,
    "eval_every": 5 * 8_000,
    "eval_tasks": 30,
}
EPOCH = 20 * 2 * 200
PUBLISHED = {
    "half-cheetah-vel": {
        "agent.algorithm.clip": 0.1,
        "agent.head.init_std": 0.2,
        "agent.value_input": "token",  # a trunk of its own: an MLP on the token
        "agent.algorithm.value.optimizer.learning_rate": 2.5e-4,
        "agent.algorithm.optimizer.decay": "exponential",
        "agent.algorithm.optimizer.decay_start": 100 * EPOCH,
        "agent.algorithm.optimizer.decay_end": 750 * EPOCH,
        "agent.algorithm.optimizer.final_factor": 0.1,
        "agent.algorithm.value.optimizer.final_factor": 1.0,
        "env_steps": 20_000_000,
    },
    "half-cheetah-dir": {
        "agent.algorithm.clip": 0.2,
        "agent.head.init_std": 0.5,
        "agent.value_input": "feature",  # the trunk is shared
        "agent.algorithm.value.optimizer.learning_rate": 3e-5,
        "agent.algorithm.optimizer.decay": "exponential",
        "agent.algorithm.optimizer.decay_start": 100 * EPOCH,
        "agent.algorithm.optimizer.decay_end": 3_700 * EPOCH,
        "agent.algorithm.optimizer.final_factor": 1e-4,
        "agent.algorithm.value.optimizer.decay": "exponential",
        "agent.algorithm.value.optimizer.decay_start": 100 * EPOCH,
        "agent.algorithm.value.optimizer.decay_end": 3_700 * EPOCH,
        "agent.algorithm.value.optimizer.final_factor": 1e-4,
        "env_steps": 40_000_000,
    },
    "ant-dir-radian": {
        "agent.algorithm.clip": 0.2,
        "agent.head.init_std": 0.5,
        "agent.head.last_gain": 0.01,
        "agent.algorithm.gamma": 0.92,
        "agent.value_input": "feature",  # the trunk is shared
        "agent.algorithm.value.optimizer.learning_rate": 3e-5,
        "agent.algorithm.optimizer.decay": "exponential",
        "agent.algorithm.optimizer.decay_start": 500 * EPOCH,
        "agent.algorithm.optimizer.decay_end": 3_500 * EPOCH,
        "agent.algorithm.optimizer.final_factor": 1e-4,
        "agent.algorithm.value.optimizer.decay": "exponential",
        "agent.algorithm.value.optimizer.decay_start": 500 * EPOCH,
        "agent.algorithm.value.optimizer.decay_end": 3_500 * EPOCH,
        "agent.algorithm.value.optimizer.final_factor": 1e-4,
        "env_steps": 40_000_000,
    },
}


@pytest.mark.parametrize("env", PUBLISHED)
def test_paper_is_the_published_table(env):
    config = recipe(env, "trmrl", "paper")
    core = configs.to_json(config)["agent"]["core"]
    leaves = configs.flatten(config) | {"agent.core.kind": core["kind"]}
    published = SHARED | PUBLISHED[env]
    assert {name: leaves[name] for name in published} == published
    spec = make(env).spec
    assert config.num_lanes * spec.num_episodes * spec.horizon == EPOCH


# RL² of the ProMP code's branch `full_code`. Nothing is expected there beyond an episode's end,
# whatever ended it: the clock's end is an end, and returns are the targets.
PROMP = {
    "agent.core.width": 64,
    "agent.head.hidden": (),
    "agent.head.init_std": 0.1,
    "agent.memory_scope": "trial",
    "agent.value_input": "token",
    "agent.normalize_obs": False,
    "agent.algorithm.gamma": 0.99,
    "agent.algorithm.gae_lambda": 1.0,
    "agent.algorithm.clip": 0.2,
    "agent.algorithm.num_passes": 5,
    "agent.algorithm.chunk_length": 40,  # 32 there
    "agent.algorithm.credit_across_episodes": False,
    "agent.algorithm.bootstrap": False,
    "agent.algorithm.value_target": "return",
    "agent.algorithm.value.optimizer.learning_rate": 1e-2,  # a fit by least squares there
    "agent.algorithm.objectives.entropy.coef": 0.0,
    "agent.algorithm.optimizer.learning_rate": 1e-3,
    "agent.algorithm.optimizer.final_factor": 1.0,
    "agent.algorithm.optimizer.max_grad_norm": 0.0,
    "num_lanes": 100,
    "env_steps": 501 * 100 * 2 * 200,
}


@pytest.mark.parametrize("env", ["half-cheetah-vel", "half-cheetah-dir"])
def test_promp_is_the_published_rl2(env):
    config, spec = recipe(env, "rl2", "promp"), make(env).spec
    leaves = configs.flatten(config)
    assert {name: leaves[name] for name in PROMP} == PROMP
    assert configs.to_json(config)["agent"]["core"]["kind"] == "LSTMConfig"
    trial = config.num_lanes * spec.num_episodes * spec.horizon
    assert leaves["agent.algorithm.minibatch_size"] == trial  # one step a pass
    with pytest.raises(TrmrlError, match=r"bandit-n10-k5, only for half-cheetah-vel, half-"):
        recipe("bandit-n10-k5", "rl2", "promp")


# PEARL of the code published with it (oyster): `configs/default.py`, and a column for each of its
# other configurations. Its steps are here in episodes of `max_path_length`. The belief is cleared
# between the phases of collection: of the later one the first episode, too, is on the prior.
OYSTER = {
    "agent.latent": 5,
    "agent.encoder_hidden": (200, 200, 200),
    "agent.hidden": (300, 300, 300),
    "agent.meta_batch": 16,
    "agent.batch_size": 256,
    "agent.optimizer.learning_rate": 3e-4,
    "agent.optimizer.decay_end": 0,
    "agent.optimizer.weight_decay": 0.0,
    "agent.optimizer.max_grad_norm": 0.0,
    "agent.gamma": 0.99,
    "agent.tau": 0.005,
    "agent.reward_scale": 5.0,
    "agent.kl_coef": 0.1,
    "agent.actor_penalty": 1e-3,
    "agent.tune_temperature": False,
    "agent.context_next_obs": False,
    "agent.context_prefix": False,
    "agent.dense_critics": False,
    "agent.collect_prior_episodes": 3,  # 400 steps, and the first 200 of the 600 that follow
    "agent.context_episodes": 2,  # 400 steps
    "agent.prior_episodes": 2,  # of an evaluation
    "agent.num_steps": 4_000,
    "num_episodes": 5,  # 400 and 600 steps
    "num_lanes": 5,  # tasks that an iteration collects
}
# For each task 2,000 steps before the first gradient step (point robots 200, and no less than a
# whole trial here), then 500 iterations.
PEARL = {
    "half-cheetah-vel": {
        "agent.plan.num_tasks": 100,
        "agent.context_size": 100,
        "agent.num_steps": 2_000,
        "agent.warm_steps": 100 * 2_000,
        "env_steps": 100 * 2_000 + 500 * 5 * 1_000,
    },
    "half-cheetah-dir": {
        "agent.plan.num_tasks": 20,  # draws of the published 2
        "agent.meta_batch": 4,
        "agent.context_size": 256,
        "agent.num_steps": 2_000,
        "agent.collect_prior_episodes": 6,  # 1,000 steps, and the first 200 of as many
        "agent.context_episodes": 5,
        "agent.warm_steps": 20 * 2_000,
        "num_episodes": 10,
        "env_steps": 20 * 2_000 + 500 * 5 * 2_000,
    },
    "ant-dir": {
        "agent.plan.num_tasks": 20,  # draws of the published 2
        "agent.meta_batch": 4,
        "agent.context_size": 256,
        "agent.warm_steps": 20 * 2_000,
        "env_steps": 20 * 2_000 + 500 * 5 * 1_000,
    },
    "ant-goal": {
        "agent.plan.num_tasks": 150,
        "agent.meta_batch": 10,
        "agent.context_size": 256,
        "agent.kl_coef": 1.0,
        "agent.warm_steps": 150 * 2_000,
        "env_steps": 150 * 2_000 + 500 * 5 * 1_000,
    },
    "humanoid-dir": {
        "agent.plan.num_tasks": 100,
        "agent.context_size": 256,
        "agent.warm_steps": 100 * 2_000,
        "env_steps": 100 * 2_000 + 500 * 5 * 1_000,
    },
    "point-robot": {
        "agent.plan.num_tasks": 80,
        "agent.context_size": 64,
        "agent.num_steps": 1_000,
        "agent.reward_scale": 100.0,
        "agent.collect_prior_episodes": 11,  # 200 steps, and the first 20 of as many
        "agent.context_episodes": 10,
        "agent.prior_episodes": 1,
        "agent.warm_steps": 80 * 400,
        "num_episodes": 20,
        "env_steps": 80 * 400 + 500 * 5 * 400,
    },
    "point-robot-sparse": {
        "agent.plan.num_tasks": 80,
        "agent.context_size": 1_024,
        "agent.num_steps": 1_000,
        "agent.reward_scale": 100.0,
        "agent.gamma": 0.9,
        "agent.kl_coef": 1.0,
        "agent.dense_critics": True,
        "agent.collect_prior_episodes": 6,  # 100 steps, and the first 20 of the 900 that follow
        "agent.context_episodes": 50,
        "agent.prior_episodes": 5,
        "agent.warm_steps": 80 * 1_000,
        "num_episodes": 50,
        "num_lanes": 10,
        "env_steps": 80 * 1_000 + 500 * 10 * 1_000,
    },
}
PEARL["walker-rand-params"] = PEARL["hopper-rand-params"] = {
    "agent.plan.num_tasks": 40,
    "agent.meta_batch": 10,
    "agent.context_size": 100,
    "agent.context_next_obs": True,
    "agent.warm_steps": 40 * 2_000,
    "env_steps": 40 * 2_000 + 500 * 5 * 1_000,
}


@pytest.mark.parametrize("env", PEARL)
def test_pearl_is_the_published_configuration(env):
    config = recipe(env, "pearl", "paper")
    leaves, published = configs.flatten(config), OYSTER | PEARL[env]
    assert {name: leaves[name] for name in published} == published
    trial = config.num_episodes * (20 if env.startswith("point-robot") else 200)
    assert make(env, config.num_episodes).spec.trial_length == trial
    assert leaves["agent.capacity"] >= config.env_steps / leaves["agent.plan.num_tasks"]


def test_every_published_configuration_of_pearl_is_checked():
    assert {config.env for config in known_recipes("pearl", "paper")} == set(PEARL)


# MAML-TRPO and ProMP of the ProMP code's master.
MAML = {
    "agent.plan.lanes_per_task": 20,
    "agent.head.hidden": (64, 64),
    "agent.head.init_std": 1.0,
    "agent.action_scale": 10.0,
    "agent.gamma": 0.99,
    "agent.gae_lambda": 1.0,
    "agent.inner_rate": 0.1,
    "agent.num_inner_steps": 1,
    "agent.first_order": False,
    "agent.exploration_coef": 0.0,
    "num_lanes": 40 * 20,
    "env_steps": 1001 * 40 * 20 * 2 * 200,
}
OUTER = {
    "maml": {
        "agent.inner_loss": "log_prob",
        "agent.outer.kl_limit": 0.01,
        "agent.outer.num_cg_steps": 10,
        "agent.outer.damping": 0.0,
        "agent.outer.backtrack_ratio": 0.8,
        "agent.outer.max_tries": 15,
    },
    "promp": {
        "agent.inner_loss": "ratio",
        "agent.outer.clip": 0.3,
        "agent.outer.num_passes": 5,
        "agent.outer.kl_coef": 5e-4,
        "agent.outer.kl_target": 0.0,
        "agent.outer.optimizer.learning_rate": 1e-3,
        "agent.outer.optimizer.final_factor": 1.0,
        "agent.outer.optimizer.max_grad_norm": 0.0,
    },
}


@pytest.mark.parametrize("agent", OUTER)
@pytest.mark.parametrize("env", ["half-cheetah-vel", "half-cheetah-dir"])
def test_maml_and_promp_are_the_published_code_s(env, agent):
    config = recipe(env, agent, "paper")
    leaves, published = configs.flatten(config), MAML | OUTER[agent]
    assert {name: leaves[name] for name in published} == published
    assert make(env, config.num_episodes).spec.num_episodes == 2
    with pytest.raises(TrmrlError, match=r"ant-dir, only for half-cheetah-vel, half-cheetah-dir"):
        recipe("ant-dir", agent, "paper")


@pytest.mark.parametrize("env", ["bandit-n10-k5", "half-cheetah-vel"])
def test_controls_are_trmrl_but_for_what_they_control(env):
    ours = configs.flatten(recipe(env))
    for agent, normalization in (("pre-norm", "pre"), ("post-norm", "post"), ("xavier", "none")):
        theirs = configs.flatten(recipe(env, agent))
        assert theirs == ours | {
            "agent_name": agent,
            "agent.core.normalization": normalization,
            "agent.core.initializer": "xavier",
        }


def test_paper_has_no_setting_for_a_bandit():
    with pytest.raises(TrmrlError, match=r"bandit-n10-k5, only for half-cheetah-vel, half-"):
        recipe("bandit-n10-k5", "trmrl", "paper")


def test_unknown_agents_and_recipes_are_answered_with_the_nearest():
    with pytest.raises(TrmrlError, match=r"unknown agent 'trml': did you mean trmrl"):
        recipe("bandit-n10-k5", "trml")
    with pytest.raises(TrmrlError, match=r"unknown recipe of trmrl 'papr': did you mean paper"):
        recipe("bandit-n10-k5", "trmrl", "papr")


@pytest.mark.parametrize("env", ENVS)
def test_no_world_has_another_familys_numbers(env):
    """Every world of the menu states a family that has a setting of its own."""
    assert make(env).spec.family in SETTINGS


def test_a_sparse_world_of_long_trials_is_remembered_whole():
    """Semicircle's 300 steps of mostly no reward: five steps of them say nothing of the goal."""
    core = configs.flatten(recipe("semicircle"))
    assert (core["agent.core.context"], core["agent.core.window"]) == ("trial", 0)


@pytest.mark.parametrize(
    ("env", "expected", "chunk_length"),
    [
        ("half-cheetah-vel", ("trial", 16, "rotary"), 50),
        pytest.param("ml1-reach", ("window", 5, "absolute"), 1, marks=pytest.mark.metaworld),
        ("tabular-n10", ("trial", 0, "absolute"), 0),
    ],
)
def test_what_trmrl_remembers_by_default(env, expected, chunk_length):
    agent = recipe(env).agent
    assert (agent.core.context, agent.core.window, agent.core.position) == expected
    assert agent.algorithm.chunk_length == chunk_length


@pytest.mark.parametrize(
    ("env", "gamma"),
    [("half-cheetah-vel", 0.95), ("ant-dir", 0.95), ("hopper-rand-params+task", 0.99)],
)
def test_credit_reaches_farther_where_bodies_fall(env, gamma):
    assert recipe(env).agent.algorithm.gamma == gamma


@pytest.mark.parametrize(("num_episodes", "family"), [(20, "point"), (21, "locomotion")])
def test_a_family_of_ones_own_has_the_setting_of_its_trials_length(num_episodes, family):
    spec = replace(make("point-robot").spec, family="mine", horizon=10, num_episodes=num_episodes)
    assert setting_of(spec) == SETTINGS[family](spec)


def test_an_oracle_trains_as_long_as_its_world():
    lengths = {recipe(f"half-cheetah-dir{end}").env_steps for end in ("", "+task")}
    assert lengths == {4_000_000}


@pytest.mark.parametrize("agent", ["maml", "promp", "trmrl", "rl2"])
def test_a_world_named_by_its_pulls_has_as_many_for_every_agent(agent):
    """And the published two episodes are those of worlds that have two."""
    for env, num_episodes in (("bandit-n10-k5", 10), ("tabular-n7", 7), ("navigation-2d", 2)):
        config = recipe(env, agent)
        spec = make(env, config.num_episodes).spec
        assert spec.num_episodes == num_episodes
        configs.check(config, spec)
