"""Would the tests notice? Breaks the code by hand-picked changes, one at a time, and runs tests.

    python benchmarks/mutations.py [PATTERN] [--json FILE]

Every mutation is a wrong version of one line that a careless edit could leave behind: a sign, a
mask, a key, a term. It is made in a copy of `src/`, and the test files named beside it are run
against the copy. It is caught if a test fails. A survivor is run against the whole default suite
before it counts as one (`--whole`). Results that the file already holds are kept.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 1200  # a mutation that makes tests run longer than this is caught, too: they hang


@dataclass(frozen=True)
class Mutation:
    """Replace `old` (which occurs once, or in each place alike) in `src/trmrl/FILE` by `new`."""

    name: str
    file: str
    old: str
    new: str
    tests: str  # files under tests/, by spaces


M = Mutation
GAE, BOOT = "ops/test_gae.py laws/test_gae.py", "ops/test_bootstrap.py"
PEARL, OUTER = "agents/test_pearl_step.py agents/test_pearl.py", "learners/test_outer.py"
APART = "laws/test_train_and_test_apart.py test_train.py"
MUTATIONS = [
    # ops
    M("gae-value-sign", "ops/gae.py", "* next_value - value", "* next_value + value", GAE),
    M("gae-without-lambda", "ops/gae.py", "discount * gae_lambda * next", "discount * next", GAE),
    M("gae-reads-invalid", "ops/gae.py", "jnp.where(valid, value, next_value)", "value", GAE),
    M("return-is-lambda", "ops/gae.py", "gae_lambda=1.0", "gae_lambda=0.95", GAE),
    M("surrogate-optimistic", "ops/ppo.py", "jnp.minimum(", "jnp.maximum(", "ops/test_ppo.py"),
    M("clip-wider-above", "ops/ppo.py", "1 + clip", "1 + 2 * clip", "ops/test_ppo.py"),
    M("kl-sign", "ops/ppo.py", "jnp.expm1(log_ratio) - log_ratio",
      "log_ratio - jnp.expm1(log_ratio)", "ops/test_ppo.py"),
    M("moments-without-shift", "ops/normalize.py", " + shift**2 * share * (1 - share)", "",
      "ops/test_normalize.py"),
    M("normalize-unlimited", "ops/normalize.py", "jnp.clip((x - mean) / std, -limit, limit)",
      "(x - mean) / std", "ops/test_normalize.py"),
    M("scale-without-floor", "ops/normalize.py", "moments.variance > EPSILON",
      "moments.variance > -1.0", "ops/test_normalize.py"),
    M("standardize-over-all", "ops/masked.py", "jnp.sqrt(mean(centered**2, valid))",
      "jnp.sqrt(jnp.mean(centered**2))", "ops/test_masked.py"),
    M("explained-variance-of-value", "ops/masked.py", "variance(target - value)",
      "variance(value)", "ops/test_masked.py"),
    M("sac-bootstraps-through-death", "ops/sac.py", "(1.0 - terminated.astype(reward.dtype)) * ",
      "", "ops/test_sac.py"),
    M("sac-one-critic", "ops/sac.py", "jnp.minimum(q1, q2)", "q1", "ops/test_sac.py"),
    M("sac-entropy-sign", "ops/sac.py", "- temperature * log_prob", "+ temperature * log_prob",
      "ops/test_sac.py"),
    M("product-unnormalized", "ops/gaussian_product.py", "weighted * variance", "weighted",
      "ops/test_gaussian_product.py"),
    M("kl-without-constant", "ops/gaussian_product.py", "mean**2 - 1.0 -", "mean**2 -",
      "ops/test_gaussian_product.py"),
    M("factor-by-exp", "ops/gaussian_product.py", "jax.nn.softplus(width)", "jnp.exp(width)",
      "ops/test_gaussian_product.py"),
    M("natural-step-shorter", "ops/trpo.py", "jnp.sqrt(2.0 * kl_limit /", "jnp.sqrt(kl_limit /",
      "ops/test_trpo.py"),
    M("line-search-uphill", "ops/trpo.py", "(loss_there < loss)", "(loss_there > loss)",
      "ops/test_trpo.py"),
    M("line-search-unbounded", "ops/trpo.py", " & (kl_there <= kl_limit)", "", "ops/test_trpo.py"),
    M("cg-wrong-direction", "ops/trpo.py", "(left / squared)", "(squared / left)",
      "ops/test_trpo.py"),
    M("baseline-without-squares", "ops/linear_baseline.py", "[s, s**2, t,", "[s, s, t,",
      "ops/test_linear_baseline.py"),
    M("baseline-of-rewards", "ops/linear_baseline.py",
      "by_rollout(discounted_return)(reward, discount, valid)", "reward",
      "ops/test_linear_baseline.py"),
    M("interval-of-90", "ops/bootstrap.py", "[0.025, 0.975]", "[0.05, 0.95]", BOOT),
    M("groups-ignored", "ops/bootstrap.py", "if groups is not None:", "if groups is ...:", BOOT),
    M("middle-of-80", "ops/bootstrap.py", "QUARTER = 0.25", "QUARTER = 0.1", BOOT),
    # trial and evaluation
    M("idle-memory-moves", "trial.py",
      "return jnp.where(valid.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)", "return new",
      "test_trial.py"),
    M("clock-does-not-end", "trial.py", "~(outcome.terminated | outcome.truncated)",
      "~outcome.terminated", "test_trial.py test_evaluate.py"),
    M("every-episode-a-trial", "trial.py", "rows.outcome.reward[last], no), (rows",
      "rows.outcome.reward[last], yes), (rows", "test_trial.py"),
    M("last-reward-forgotten", "trial.py", "(memory, action, rows.outcome.reward[last], no)",
      "(memory, action, np.zeros(num_lanes, np.float32), no)", "test_trial.py"),
    M("episodes-share-noise", "trial.py", "jax.random.split(jax.random.fold_in(key, k))",
      "jax.random.split(key)", "test_trial.py laws/test_lanes_are_independent.py"),
    M("steps-share-noise", "trial.py", "lane_keys(jax.random.fold_in(key, t), lanes)",
      "lane_keys(key, lanes)", "test_trial.py laws/test_lanes_are_independent.py"),
    M("first-lane-ignored", "trial.py", "first_lane + lane, np", "lane, np",
      "test_trial.py laws/test_lanes_are_independent.py"),
    M("task-number-lost", "trial.py", "Trial(rows, task, task_id, view)",
      "Trial(rows, task, None, view)", "test_trial.py test_train.py"),
    M("return-counts-idle", "evaluate.py", "jnp.where(rows.valid, rows.outcome.reward, 0.0)",
      "rows.outcome.reward", "test_evaluate.py"),
    M("experience-of-after", "evaluate.py", "[0.0, *np.cumsum(steps.mean(axis=0))[:-1].tolist()]",
      "np.cumsum(steps.mean(axis=0)).tolist()", "test_evaluate.py"),
    M("experience-of-one-lane", "evaluate.py", "by_task(steps).sum(axis=2)",
      "by_task(steps).mean(axis=2)", "test_evaluate.py"),
    M("idle-success-counts", "evaluate.py", "(success & rows.valid).any(axis=1)",
      "success.any(axis=1)", "test_evaluate.py"),
    M("success-at-first-step", "evaluate.py", "steps[:, None] - 1,", "steps[:, None] * 0,",
      "test_evaluate.py"),
    M("evaluation-never-explores", "evaluate.py", "num_episodes=num_episodes, explore=explore,",
      "num_episodes=num_episodes, explore=False,", "test_evaluate.py"),
    M("tasks-follow-training-seed", "evaluate.py", "jax.random.split(jax.random.key(seed))",
      "jax.random.split(jax.random.key(seed + env_steps))", "test_evaluate.py"),
    M("intervals-of-repeats", "evaluate.py", "bootstrap_interval(scores, distinct)",
      "bootstrap_interval(scores)", "test_evaluate.py"),
    # agents
    M("ring-stands-still", "agents/base.py", "(updates % ring) * num_lanes", "updates % ring",
      "agents/test_base.py"),
    M("lanes-mixed-between-tasks", "agents/base.py", "x.repeat(self.lanes_per_task, axis=0)",
      "jnp.concatenate([x] * self.lanes_per_task)", "agents/test_base.py agents/test_maml.py"),
    M("memory-never-samples", "agents/memory.py",
      "policy.sample(key=key) if explore else policy.mode()", "policy.mode()",
      "agents/test_memory.py test_train.py"),
    M("memory-always-samples", "agents/memory.py",
      "policy.sample(key=key) if explore else policy.mode()", "policy.sample(key=key)",
      "agents/test_memory.py test_evaluate.py laws/test_every_agent_every_world.py"),
    M("memory-lost-between-episodes", "agents/memory.py", "        return memory\n",
      "        return jax.tree.map(jnp.zeros_like, memory)\n",
      "agents/test_memory.py laws/test_memory_scope.py laws/test_ratio_is_one.py"),
    M("value-never-stored", "agents/memory.py", "network.value(read, tokens))",
      "0.0 * network.value(read, tokens))", "agents/test_memory.py laws/test_ratio_is_one.py"),
    M("scope-ignored", "nets/network.py", 'self.memory_scope == "episode"',
      'self.memory_scope == "never"', "laws/test_memory_scope.py"),
    M("descends-on-test-tasks", "train.py", 'envs.sample_tasks("train", plan.groups',
      'envs.sample_tasks("test", plan.groups', APART),
    M("ring-of-test-tasks", "train.py", 'envs.sample_tasks("train", plan.num_tasks',
      'envs.sample_tasks("test", plan.num_tasks', APART),
    M("trains-by-the-mode", "train.py", "explore=True, key=trial_key",
      "explore=False, key=trial_key", "test_train.py laws/test_it_learns.py"),
    # learners
    M("cut-without-value", "learners/ppo.py", "jnp.where(cut, value, reward)", "reward", GAE),
    M("cut-rows-credited", "learners/ppo.py", "credited & ~cut", "credited", GAE),
    M("episodes-always-cut", "learners/ppo.py", "last if self.credit_across_episodes else",
      "last | ends_episode if self.credit_across_episodes else", GAE),
    M("streams-never-end", "learners/ppo.py", "jnp.where(ends, 0.0, self.gamma",
      "jnp.where(ends, self.gamma, self.gamma", GAE),
    M("falls-are-free", "learners/ppo.py", "self.gamma ** steps_to_next(rows.valid)",
      "self.gamma", GAE),
    M("target-is-advantage", "learners/ppo.py", "else value + advantage", "else advantage", GAE),
    M("rewards-unscaled", "learners/ppo.py", "reward = scale(model.return_moments, reward)",
      "reward = reward * 1.0", "learners/test_ppo.py laws/test_gae.py"),
    M("chunks-begin-empty", "learners/ppo.py", "c.token, c.start, c.valid)[0], m),",
      "c.token, c.start, c.valid)[0], core.start(num_lanes)),",
      "laws/test_ratio_is_one.py learners/test_ppo.py"),
    M("standardized-with-cut-rows", "learners/ppo.py", "standardize(advantage, credit.credited)",
      "standardize(advantage, rows.valid)", "learners/test_ppo.py"),
    M("moments-of-before-lost", "learners/ppo.py", "obs_moments=add(model.obs_moments, obs, valid)",
      "obs_moments=model.obs_moments", "learners/test_ppo.py"),
    M("separate-value-trains-policy", "learners/ppo.py", '"token": lambda n: n.critic}',
      '"token": everything}', "learners/test_ppo.py"),
    M("surrogate-sign", "learners/objectives/policy.py", "return -gain, {", "return gain, {",
      "learners/test_objectives.py"),
    M("surrogate-of-cut-rows", "learners/objectives/policy.py", "self.clip), chunks.credited)",
      "self.clip), chunks.valid)", "learners/test_objectives.py"),
    M("entropy-sign", "learners/objectives/policy.py", "return -mean(reading.policy.entropy()",
      "return mean(reading.policy.entropy()", "learners/test_objectives.py"),
    M("bonus-falls-to-nothing", "learners/objectives/policy.py",
      "(1.0 - self.final_factor) * elapsed", "elapsed", "learners/test_objectives.py"),
    M("value-of-cut-rows", "learners/objectives/policy.py", "loss = mean(loss, chunks.credited)",
      "loss = mean(loss, chunks.valid)", "learners/test_objectives.py"),
    M("gaussian-without-width", "learners/objectives/policy.py",
      "loss * jnp.exp(-2 * log_std) + log_std",
      "loss * jnp.exp(-2 * log_std)", "learners/test_objectives.py"),
    M("observations-not-predicted", "learners/objectives/prediction.py", "return reward + obs, {",
      "return reward, {", "learners/test_objectives.py"),
    M("never-shuffled", "learners/descent.py", "jax.random.permutation(key, num_rows)",
      "jnp.arange(num_rows)", "learners/test_descent.py"),
    M("stops-too-early", "learners/descent.py", '(metrics["kl"] > passes.stop_kl)',
      '(metrics["kl"] < passes.stop_kl)', "learners/test_descent.py learners/test_ppo.py"),
    M("weights-never-decay", "learners/descent.py",
      "optax.add_decayed_weights(self.weight_decay) if self.weight_decay else optax.identity()",
      "optax.identity()", "learners/test_descent.py"),
    M("gradient-unclipped", "learners/descent.py", "clip if self.max_grad_norm else",
      "optax.identity() if self.max_grad_norm else", "learners/test_descent.py"),
    M("step-size-runs-away", "learners/descent.py", "kl > 1.5 * target_kl, 1 / SCALE_STEP",
      "kl > 1.5 * target_kl, SCALE_STEP", "learners/test_descent.py learners/test_ppo.py"),
    M("decay-from-the-start", "learners/descent.py", "(env_steps - self.decay_start) / span",
      "env_steps / span", "learners/test_descent.py"),
    M("moments-kept-when-stopped", "learners/descent.py",
      "new_moments = jax.tree.map(keep, new_moments, moments)", "pass",
      "learners/test_descent.py"),
    # PEARL
    M("rows-of-another-task", "agents/pearl.py",
      "draw(stored.everything, task, self.batch_size", "draw(stored.everything, task[::-1], "
      "self.batch_size", PEARL),
    M("context-of-all-stored", "agents/pearl.py",
      "return draw(stored.context, task, self.context_size, key=key), jnp",
      "return draw(stored.everything, task, self.context_size, key=key), jnp", PEARL),
    M("clock-stored-as-terminal", "learners/replay.py", "        outcome.terminated,\n",
      "        outcome.terminated | outcome.truncated,\n", "learners/test_replay.py"),
    M("target-takes-gradient", "agents/pearl.py",
      "jax.lax.stop_gradient(self._target(model, rows, z, key))",
      "self._target(model, rows, z, key)", PEARL),
    M("empty-tasks-drawn", "agents/pearl.py", "(num_tasks,), 0, jnp.sum(~empty))",
      "(num_tasks,), 0, len(empty))", "agents/test_pearl.py"),
    M("actor-penalty-dropped", "agents/pearl.py", "return self.actor_penalty * width - value,",
      "return -value,", PEARL),
    M("targets-follow-old-critics", "agents/pearl.py",
      "optax.incremental_update(critics, model", "optax.incremental_update(model.critics, model",
      PEARL),
    M("belief-kl-averaged", "agents/pearl.py", "self.kl_coef * jnp.sum(kl)",
      "self.kl_coef * jnp.mean(kl)", PEARL),
    M("z-too-sure", "agents/pearl.py", "mean + jnp.sqrt(variance) * noise",
      "mean + variance * noise", PEARL),
    M("critics-alike", "agents/pearl.py", "MLP(q_sizes, 1.0, relu, key=keys[1])",
      "MLP(q_sizes, 1.0, relu, key=keys[0])", "agents/test_pearl.py"),
    M("prior-one-longer", "agents/pearl.py", "num_episodes < self.prior_episodes",
      "num_episodes <= self.prior_episodes", "agents/test_pearl.py"),
    M("idle-rows-believed", "agents/pearl.py", "jnp.where(valid, x, 0.0).sum(axis=0) for x",
      "x.sum(axis=0) for x", "agents/test_pearl.py"),
    M("context-never-cleared", "agents/pearl.py", "context = clear(stored.context, task)",
      "context = stored.context", "agents/test_pearl.py"),
    M("ring-off-by-one", "learners/replay.py", "axis=0) - 1\n", "axis=0)\n",
      "learners/test_replay.py"),
    M("last-row-never-drawn", "learners/replay.py", "0, jnp.broadcast_to(filled, shape))",
      "0, jnp.broadcast_to(filled - 1, shape))", "learners/test_replay.py"),
    M("evaluates-as-it-collects", "recipes/pearl.py", "first_phase + 1", "first_phase",
      "recipes/test_recipes.py"),
    # MAML and its kin
    M("inner-step-uphill", "agents/maml.py", "w - self.inner_rate * g", "w + self.inner_rate * g",
      "agents/test_maml.py"),
    M("adapts-to-the-mode", "agents/maml.py",
      "explore | (memory.num_episodes < self.exploration_episodes)", "explore",
      "agents/test_maml.py"),
    M("actions-unscaled", "agents/maml.py", "_scale(sample, 1.0 / self.action_scale)",
      "_scale(sample, 1.0)", "agents/test_maml.py"),
    M("always-first-order", "agents/maml.py", "if self.first_order:", "if True:",
      "agents/test_maml.py"),
    M("divergence-after-reversed", "agents/maml.py", "batch.old_after.kl(after)",
      "after.kl(batch.old_after)", "learners/test_outer.py agents/test_maml.py"),
    M("divergence-before-reversed", "agents/maml.py", "batch.old_before.kl(before)",
      "before.kl(batch.old_before)", "learners/test_outer.py agents/test_maml.py"),
    M("advantages-raw", "agents/maml.py", "jax.vmap(standardize)(advantage, happened)",
      "advantage", "agents/test_maml.py"),
    M("readapted-to-the-last", "agents/maml.py", "jax.tree.map(lambda x: x[:-1], rollouts))",
      "jax.tree.map(lambda x: x[1:], rollouts))", "agents/test_maml.py"),
    M("outer-never-clips", "learners/outer.py", "surrogate_loss(readapted, batch, self.clip)",
      "surrogate_loss(readapted, batch)", OUTER),
    M("penalty-rewards-divergence", "learners/outer.py", "self.clip) + penalty",
      "self.clip) - penalty", OUTER),
    M("penalty-on-the-wrong-side", "learners/outer.py",
      "penalty = price * readapted.kl_before.mean()", "penalty = price * readapted.kl_after.mean()",
      OUTER),
    M("price-runs-away", "learners/outer.py", "2.0 * price, price)", "0.5 * price, price)", OUTER),
    M("trust-region-before", "learners/outer.py",
      "surrogate_loss(readapted, batch), readapted.kl_after.mean()",
      "surrogate_loss(readapted, batch), readapted.kl_before.mean()", OUTER),
    M("hessian-undamped", "learners/outer.py", "hessian(v) + self.damping * v", "hessian(v)",
      OUTER),
    M("promp-recipe-bootstraps", "recipes/rl2.py", "            bootstrap=False,\n", "",
      "recipes/test_recipes.py"),
    M("bootstraps-unasked", "learners/ppo.py", "        if self.bootstrap:\n",
      "        if True:\n", GAE),
]  # fmt: skip


def check(mutation: Mutation, tests: list[str]) -> str:
    """Return "caught", "survived" or what went wrong."""
    source = (ROOT / "src" / "trmrl" / mutation.file).read_text(encoding="utf-8")
    if mutation.old not in source:
        return "stale: the line is not there any more"
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        shutil.copytree(ROOT / "src", Path(folder) / "src")
        target = Path(folder) / "src" / "trmrl" / mutation.file
        target.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", *tests]
        environment = os.environ | {"PYTHONPATH": str(Path(folder) / "src")}
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            return "caught"
    if done.returncode in (0, 1):
        return "caught" if done.returncode else "survived"
    return f"not run: {(done.stdout + done.stderr).strip().splitlines()[-1]}"


def main() -> None:
    """Run the mutations whose names hold PATTERN; prints one line each, and the share caught."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pattern", nargs="?", default="")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--whole", action="store_true", help="survivors: the whole default suite")
    options = parser.parse_args()
    path = options.json
    results = json.loads(path.read_text()) if path and path.exists() else {}
    for mutation in MUTATIONS:
        if options.pattern not in mutation.name or results.get(mutation.name) == "caught":
            continue
        start = time.perf_counter()
        result = check(mutation, [f"tests/{name}" for name in mutation.tests.split()])
        if result == "survived" and options.whole:
            result = check(mutation, ["tests"])
        results[mutation.name] = result
        print(f"{mutation.name:32} {result} ({time.perf_counter() - start:.0f} s)", flush=True)
        if path:
            path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    known = [results[mutation.name] for mutation in MUTATIONS if mutation.name in results]
    print(f"{known.count('caught')} of {len(known)} caught")


if __name__ == "__main__":
    main()
