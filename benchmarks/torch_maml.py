"""MAML-TRPO's published loop in plain PyTorch, and ours, in one run.

Lives here: both clocks, and the rendering, in our own words: one world and one forward pass of one
row at a time, tasks in a Python loop, a graph kept through each inner step, Hessian products by
differentiating twice. Policy, baseline and trust region are the published ones on both sides. On
half-cheetah-vel most of both clocks is MuJoCo's; navigation-2d has no simulator to wait for. Does
not live here: returns.

Left out of the rendering, so in its favor: workers and their pickles, logging, and the passes that
only feed a log. The published size is `--tasks 40 --rollouts 20`; smaller ones favor neither much.

    python benchmarks/torch_maml.py [navigation-2d] [--tasks 8] [--rollouts 5] [--iterations 3]
"""

import argparse
import json

import jax
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence
from torch.func import functional_call

from torch_pearl import seconds
from torch_rendering import HalfCheetahVel
from trmrl.agents.base import TaskPlan
from trmrl.envs import make
from trmrl.recipes import recipe
from trmrl.train import build_iteration, fresh_state
from trmrl.types import replace

GAMMA, INNER_RATE, KL_LIMIT, PRODUCTS, ACTION_SCALE = 0.99, 0.1, 0.01, 10, 10.0

Weights = dict[str, Tensor]


class Cheetah(HalfCheetahVel):
    """The yardstick's half-cheetah."""

    obs_size, action_size, horizon = 20, 6, 200

    def new_task(self) -> None:
        """Draw the velocity of the next episodes."""
        self.velocity = float(self.rng.uniform(0, 3))


class Navigation:
    """A point that walks to `goal`, paid minus the distance; it does not stop on arriving."""

    obs_size, action_size, horizon = 2, 2, 100

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.new_task()

    def new_task(self) -> None:
        """Draw the goal of the next episodes."""
        self.goal = self.rng.uniform(-0.5, 0.5, 2)

    def reset(self) -> np.ndarray:
        """Go back to the origin."""
        self.position = np.zeros(2)
        return self.position

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float]:
        """Move by a tenth of an action."""
        self.position = self.position + 0.1 * np.clip(action, -1, 1)
        return self.position, -float(np.linalg.norm(self.position - self.goal))


WORLDS = {"half-cheetah-vel": Cheetah, "navigation-2d": Navigation}
World = Cheetah | Navigation


class Policy(nn.Module):
    """Two tanh layers of 64, and a deviation of its own."""

    def __init__(self, obs_size: int, action_size: int) -> None:
        super().__init__()
        sizes = (obs_size, 64), (64, 64), (64, action_size)
        first, second, last = (nn.Linear(*size) for size in sizes)
        self.mean = nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), last)
        self.log_std = nn.Parameter(torch.zeros(action_size))

    def forward(self, obs: Tensor) -> Independent:
        """Return the distribution of an action, in tenths."""
        return Independent(Normal(self.mean(obs), self.log_std.exp()), 1)


class Rendering:
    """The published agent."""

    def __init__(self, world: World, num_tasks: int, num_rollouts: int) -> None:
        self.world, self.num_tasks, self.num_rollouts = world, num_tasks, num_rollouts
        self.policy = Policy(world.obs_size, world.action_size)

    def act(self, weights: Weights, obs: Tensor) -> Independent:
        """Return the policy's answer with other weights."""
        return functional_call(self.policy, weights, (obs,))

    def live(self, weights: Weights) -> tuple[Tensor, Tensor, Tensor]:
        """Live a task's rollouts one after the other; returns rows and their advantages."""
        rows, actions, rewards = [], [], []
        for _ in range(self.num_rollouts):
            obs = self.world.reset()
            for _ in range(self.world.horizon):
                seen = torch.as_tensor(obs, dtype=torch.float32)
                with torch.no_grad():
                    action = self.act(weights, seen[None]).sample()[0]
                rows.append(seen)
                actions.append(action)
                obs, reward = self.world.step(action.numpy().astype(np.float64) / ACTION_SCALE)
                rewards.append(reward)
        obs, told = torch.stack(rows), np.reshape(rewards, (self.num_rollouts, self.world.horizon))
        advantage = self.advantage(obs.numpy(), told)
        return obs, torch.stack(actions), torch.as_tensor(advantage, dtype=torch.float32)

    def advantage(self, obs: np.ndarray, reward: np.ndarray) -> np.ndarray:
        """Return standardized returns less the linear baseline's guess (lambda is 1)."""
        target = np.zeros_like(reward)
        ahead = np.zeros(len(reward))
        for t in range(self.world.horizon - 1, -1, -1):
            ahead = reward[:, t] + GAMMA * ahead
            target[:, t] = ahead
        s = np.clip(obs, -10, 10)
        t = np.tile(np.arange(self.world.horizon) / 100, self.num_rollouts)[:, None]
        feature = np.concatenate([s, s**2, t, t**2, t**3, np.ones_like(t)], axis=1)
        normal = feature.T @ feature + 1e-5 * np.eye(feature.shape[1])
        weight = np.linalg.lstsq(normal, feature.T @ target.ravel(), rcond=-1)[0]
        found = target.ravel() - feature @ weight
        return (found - found.mean()) / (found.std() + 1e-8)

    def adapt(self, weights: Weights, episode: tuple[Tensor, Tensor, Tensor]) -> Weights:
        """Return one task's weights after an inner step, and the graph that led there."""
        obs, action, advantage = episode
        loss = -(self.act(weights, obs).log_prob(action) * advantage).mean()
        gradient = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        pairs = zip(weights.items(), gradient, strict=True)
        return {name: weight - INNER_RATE * g for (name, weight), g in pairs}

    def iterate(self) -> None:
        """Take one outer iteration."""
        weights = dict(self.policy.named_parameters())
        trials = []
        for _ in range(self.num_tasks):
            self.world.new_task()
            before = self.live(weights)
            fast = self.adapt(weights, before)
            after = self.live({name: w.detach() for name, w in fast.items()})
            with torch.no_grad():
                old = self.act(fast, after[0])
            trials.append((before, after, old))

        def measure(weights: Weights) -> tuple[Tensor, Tensor]:
            losses, kls = [], []
            for before, (obs, action, advantage), old in trials:
                new = self.act(self.adapt(weights, before), obs)
                ratio = torch.exp(new.log_prob(action) - old.log_prob(action))
                losses.append(-(ratio * advantage).mean())
                kls.append(kl_divergence(old, new).mean())
            return torch.stack(losses).mean(), torch.stack(kls).mean()

        names, values = zip(*weights.items(), strict=True)
        flatten = lambda tensors: torch.cat([x.reshape(-1) for x in tensors])
        loss, _ = measure(weights)
        gradient = flatten(torch.autograd.grad(loss, values)).detach()

        def product(vector: Tensor) -> Tensor:
            _, kl = measure(weights)
            slope = flatten(torch.autograd.grad(kl, values, create_graph=True))
            return flatten(torch.autograd.grad(slope @ vector, values)).detach()

        x, residual = torch.zeros_like(gradient), gradient.clone()
        direction = residual.clone()
        for _ in range(PRODUCTS):
            image = product(direction)
            length = residual @ residual / (direction @ image)
            x, smaller = x + length * direction, residual - length * image
            direction = smaller + (smaller @ smaller) / (residual @ residual) * direction
            residual = smaller
        step = torch.sqrt(2 * KL_LIMIT / (x @ product(x) + 1e-8)) * x
        start = flatten(values).detach().clone()
        for tries in range(15):
            moved = torch.split(start - 0.8**tries * step, [v.numel() for v in values])
            shaped = [m.reshape(v.shape) for m, v in zip(moved, values, strict=True)]
            trial = {n: m.requires_grad_() for n, m in zip(names, shaped, strict=True)}
            new_loss, kl = measure(trial)
            if new_loss < loss and kl <= KL_LIMIT:
                with torch.no_grad():
                    for value, m in zip(values, shaped, strict=True):
                        value.copy_(m)
                return


def ours(env: str, num_tasks: int, num_rollouts: int, iterations: int) -> float:
    """Return seconds of one of our iterations."""
    config = recipe(env, "maml")
    envs, agent = make(config.env, config.num_episodes), config.agent
    agent = replace(agent, plan=TaskPlan(lanes_per_task=num_rollouts))
    state = fresh_state(agent, envs.spec, seed=0)
    iterate = build_iteration(agent, envs, num_tasks * num_rollouts)

    def run() -> None:
        nonlocal state
        state, _ = iterate(state)
        jax.block_until_ready(state.learner)

    run()
    return seconds(run, iterations)


def main() -> None:
    """Measure both and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("env", nargs="?", choices=WORLDS, default="half-cheetah-vel")
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--rollouts", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    world = WORLDS[options.env](np.random.default_rng(0))
    rendering = Rendering(world, options.tasks, options.rollouts)
    theirs = seconds(rendering.iterate, options.iterations)
    mine = ours(options.env, options.tasks, options.rollouts, options.iterations)
    found = {
        "iterations_per_s": {"torch": 1 / theirs, "trmrl": 1 / mine},
        "env_steps_of_an_iteration": options.tasks * options.rollouts * 2 * world.horizon,
        "ratio": theirs / mine,
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
