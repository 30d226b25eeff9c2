"""How close a machine comes to its own limits: learning against its matrix products, collecting
against its worlds.

Ratios measured in one run, which no test asserts; comparisons with other programs are in
`benchmarks/`.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from trmrl.agents.base import AbstractAgent
from trmrl.envs import make
from trmrl.envs.base import AbstractEnvs, keys_for
from trmrl.recipes import recipe
from trmrl.train import draw_tasks
from trmrl.trial import run_trial
from trmrl.types import Continuous, Learner, Trial

Product = tuple[int, int, int, int]  # batch, rows, columns, contracted
REPEATS = 5
SHARE = 0.01  # products below this share of the FLOPs are not timed on their own


def bench(env: str, agent_name: str, recipe_name: str, num_lanes: int) -> Iterator[str]:
    """Yield lines that tell both ratios for an experiment's agent in `num_lanes` worlds."""
    config = recipe(env, agent_name, recipe_name)
    envs, agent = make(env, config.num_episodes), config.agent
    learner = agent.init(envs.spec, key=jax.random.key(0))
    tasks, task_id = draw_tasks(agent, envs, num_lanes, jnp.int32(0), key=jax.random.key(1))
    collect = envs.driver.jit(
        lambda model, key: run_trial(
            agent, model, envs, tasks, task_id=task_id, explore=True, key=key
        )
    )
    trial = collect(learner.model, jax.random.key(2))
    num_steps = int(np.size(trial.rows.valid))
    acting = median_seconds(lambda: collect(learner.model, jax.random.key(2)))
    alone = median_seconds(worlds_alone(envs, tasks))
    yield (
        f"collect  {num_steps / acting:,.0f} env steps/s, worlds alone {num_steps / alone:,.0f}: "
        f"{alone / acting:.0%} of the limit at {num_lanes} lanes"
    )
    rate, peak = learner_rates(agent, learner, trial)
    yield (
        f"learn    {rate / 1e9:,.0f} GFLOP/s, matrix products of its shapes {peak / 1e9:,.0f}: "
        f"{rate / peak:.0%} of the limit"
    )


def median_seconds(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Return the median time of a call whose result is awaited, after one that is not counted."""
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def worlds_alone(envs: AbstractEnvs, tasks: Any) -> Callable[[], Any]:
    """Return a call that steps the worlds through one trial with actions drawn beforehand."""
    spec = envs.spec
    num_lanes = jax.tree.leaves(tasks)[0].shape[0]
    shape = (spec.horizon, num_lanes)
    draw = np.random.default_rng(0)
    actions = (
        draw.uniform(-1, 1, (*shape, spec.action_space.size)).astype(np.float32)
        if isinstance(spec.action_space, Continuous)
        else draw.integers(spec.action_space.size, size=shape).astype(np.int32)
    )

    def play(key):
        def episode(carry, key_of_episode):
            env_state, _ = envs.reset(tasks, key=keys_for(tasks, key_of_episode))
            _, outcome = envs.driver.scan(step, env_state, actions)
            return carry, outcome.reward

        step = envs.step
        return envs.driver.scan(episode, 0, jax.random.split(key, spec.num_episodes))

    compiled = envs.driver.jit(play)
    return lambda: compiled(jax.random.key(0))


def learner_rates(agent: AbstractAgent, learner: Learner, trial: Trial) -> tuple[float, float]:
    """Return the learner's FLOP/s, and this machine's for bare products of the same shapes.

    FLOPs are those of the matrix products in one update, counted in its program. The limit is
    the rate of the unbatched ones, each shape timed alone in a compiled loop.
    """
    update = lambda learner, trial: agent.update(
        learner, trial, env_steps=jnp.zeros(()), key=jax.random.key(0)
    )
    products = count_products(jax.make_jaxpr(update)(learner, trial).jaxpr)
    total = sum(flops(product) * count for product, count in products.items())
    compiled = jax.jit(update)
    rate = total / median_seconds(lambda: compiled(learner, trial))
    large = {
        product: count
        for product, count in products.items()
        if product[0] == 1 and flops(product) * count > SHARE * total
    }
    ideal = sum(count * _product_seconds(product) for product, count in large.items())
    return rate, sum(flops(product) * count for product, count in large.items()) / ideal


def flops(product: Product) -> int:
    """Return the FLOPs of a matrix product: one multiplication and one addition per term."""
    batch, rows, columns, contracted = product
    return 2 * batch * rows * columns * contracted


def count_products(jaxpr: Any, times: int = 1) -> Counter[Product]:
    """Return how often a program multiplies matrices of each shape, loops counted through.

    Branches of a `cond` count as if all were taken; `while` loops of unknown length count once.
    """
    counts: Counter[Product] = Counter()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            counts[_shape(equation)] += times
        inner_times = times * equation.params.get("length", 1)
        for inner in _programs(equation.params.values()):
            counts += count_products(inner, inner_times)
    return counts


def _programs(values: Iterable[Any]) -> Iterator[Any]:
    """Yield the programs among an equation's parameters: a loop's body, a call's function."""
    for value in values:
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value
        elif isinstance(value, tuple | list):
            yield from _programs(value)


def _shape(equation: Any) -> Product:
    (contract, _), (batched, _) = equation.params["dimension_numbers"]
    left, right = (np.array(x.aval.shape, dtype=np.int64) for x in equation.invars)
    batch, contracted = int(left[list(batched)].prod()), int(left[list(contract)].prod())
    rows = int(left.prod()) // (batch * contracted)
    return batch, rows, int(right.prod()) // (batch * contracted), contracted


def _product_seconds(product: Product) -> float:
    """Return the time of one product among many in one compiled loop, so without dispatch.

    Each feeds the next one number, and the barrier keeps the compiler from computing only that.
    """
    _, rows, columns, contracted = product
    left, right = jnp.ones((rows, contracted)), jnp.ones((contracted, columns))
    times = max(1, int(1e10 / flops(product)))

    @jax.jit
    def several(left: jax.Array, right: jax.Array) -> jax.Array:
        def again(_, left):
            out = jax.lax.optimization_barrier(left @ right)
            return left.at[0, 0].set(out[0, 0] / contracted)

        return jax.lax.fori_loop(0, times, again, left)

    return median_seconds(lambda: several(left, right)) / times
