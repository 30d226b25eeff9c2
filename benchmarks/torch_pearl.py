"""PEARL's published loop on HalfCheetahVel in plain PyTorch, and ours, in one run.

Lives here: both clocks, and the rendering, in our own words: one world and one forward pass of one
row at a time, context concatenated anew after every step, a list of distributions for the tasks of
a gradient step, five optimizers. Networks and batches are the published ones on both sides
(`trmrl train half-cheetah-vel --agent pearl --recipe paper`). Does not live here: returns.

Left out of the rendering, so in its favor: logging, evaluation, replay paths, and conversions
between host and device. `most_ratio_gradient_steps` is what a step would gain that did our matrix
products and nothing else, as fast as this machine multiplies matrices of their shapes.

    python benchmarks/torch_pearl.py [--steps 40] [--episodes 2]
"""

import argparse
import itertools
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from torch_rendering import HalfCheetahVel
from trmrl.bench import learner_rates
from trmrl.envs import make
from trmrl.recipes import recipe
from trmrl.train import build_iteration, draw_tasks, fresh_state
from trmrl.trial import run_trial
from trmrl.types import replace

OBS, ACT, LATENT = 20, 6, 5
TASKS, META_BATCH, BATCH, CONTEXT, HORIZON = 100, 16, 256, 100, 200
GAMMA, TAU, SCALE, KL = 0.99, 0.005, 5.0, 0.1


def mlp(sizes: list[int]) -> nn.Sequential:
    """Return ReLU layers and a linear last one."""
    layers: list[nn.Module] = []
    for i, o in itertools.pairwise(sizes):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Rendering:
    """The published agent."""

    def __init__(self) -> None:
        hidden = [300, 300, 300]
        self.encoder = mlp([OBS + ACT + 1, 200, 200, 200, 2 * LATENT])
        self.q1, self.q2 = (mlp([OBS + ACT + LATENT, *hidden, 1]) for _ in range(2))
        self.value, self.slow_value = (mlp([OBS + LATENT, *hidden, 1]) for _ in range(2))
        self.policy = mlp([OBS + LATENT, *hidden, 2 * ACT])
        adam = lambda net: torch.optim.Adam(net.parameters(), lr=3e-4)
        nets = self.encoder, self.q1, self.q2, self.value, self.policy
        self.optimizers = [adam(net) for net in nets]
        noise = lambda *shape: torch.randn(TASKS, 2_000, *shape)
        self.store = noise(OBS), noise(ACT), noise(), noise(OBS)

    def act(self, obs: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return a squashed sample, its log density, and the normal's mean and log deviation."""
        mean, log_std = self.policy(torch.cat([obs, z], dim=-1)).chunk(2, dim=-1)
        log_std = log_std.clamp(-20, 2)
        normal = Normal(mean, log_std.exp())
        u = normal.rsample()
        action = torch.tanh(u)
        log_prob = normal.log_prob(u) - torch.log(1 - action**2 + 1e-6)
        return action, log_prob.sum(-1), mean, log_std

    def posterior(self, context: Tensor) -> list[Normal]:
        """Return each task's product of Gaussians, one after the other."""
        mean, width = self.encoder(context).chunk(2, dim=-1)
        variance = functional.softplus(width)
        found = []
        for m, v in zip(torch.unbind(mean), torch.unbind(variance), strict=True):
            v = torch.clamp(v, min=1e-7)
            product = 1.0 / torch.sum(1.0 / v, dim=0)
            found.append(Normal(product * torch.sum(m / v, dim=0), product.sqrt()))
        return found

    def draw(self, task: np.ndarray, num: int) -> list[Tensor]:
        """Return rows of each task, gathered task by task."""
        rows = [torch.randint(0, 2_000, (num,)) for _ in task]
        return [torch.stack([x[i, r] for i, r in zip(task, rows, strict=True)]) for x in self.store]

    def step(self) -> None:
        """Take one gradient step of everything."""
        task = np.random.choice(TASKS, META_BATCH)
        obs, action, reward, _ = self.draw(task, CONTEXT)
        posteriors = self.posterior(torch.cat([obs, action, reward[..., None]], dim=-1))
        z = torch.stack([p.rsample() for p in posteriors])
        obs, action, reward, next_obs = self.draw(task, BATCH)
        z = torch.cat([row.repeat(BATCH, 1) for row in z])
        obs, action, next_obs = (x.reshape(-1, x.shape[-1]) for x in (obs, action, next_obs))
        q1, q2 = (q(torch.cat([obs, action, z], dim=-1))[:, 0] for q in (self.q1, self.q2))
        value = self.value(torch.cat([obs, z.detach()], dim=-1))[:, 0]
        with torch.no_grad():
            next_value = self.slow_value(torch.cat([next_obs, z], dim=-1))[:, 0]
            target = SCALE * reward.reshape(-1) + GAMMA * next_value
        for optimizer in self.optimizers[:3]:
            optimizer.zero_grad()
        prior = Normal(torch.zeros(LATENT), torch.ones(LATENT))
        kl = torch.stack([kl_divergence(p, prior).sum() for p in posteriors]).sum()
        (KL * kl).backward(retain_graph=True)
        (((q1 - target) ** 2).mean() + ((q2 - target) ** 2).mean()).backward()
        for optimizer in self.optimizers[:3]:
            optimizer.step()
        fresh, log_prob, mean, log_std = self.act(obs, z.detach())
        inputs = torch.cat([obs, fresh, z.detach()], dim=-1)
        best = torch.min(self.q1(inputs), self.q2(inputs))[:, 0]
        self.optimizers[3].zero_grad()
        ((value - (best - log_prob).detach()) ** 2).mean().backward()
        self.optimizers[3].step()
        self.optimizers[4].zero_grad()
        loss = (log_prob - best).mean() + 1e-3 * (mean**2).mean() + 1e-3 * (log_std**2).mean()
        loss.backward()
        self.optimizers[4].step()
        with torch.no_grad():
            pairs = zip(self.slow_value.parameters(), self.value.parameters(), strict=True)
            for slow, fast in pairs:
                slow.copy_(slow * (1 - TAU) + fast * TAU)

    def live(self, envs: HalfCheetahVel) -> None:
        """Live an episode, one row at a time; the context grows by concatenation."""
        obs, z = torch.as_tensor(envs.reset(), dtype=torch.float32), torch.randn(LATENT)
        context = torch.zeros(1, 0, OBS + ACT + 1)
        for _ in range(HORIZON):
            with torch.no_grad():
                action = self.act(obs[None], z[None])[0][0]
            seen, reward = envs.step(action.numpy().astype(np.float64))
            row = torch.cat([obs, action, torch.tensor([reward], dtype=torch.float32)])
            context = torch.cat([context, row[None, None]], dim=1)
            obs = torch.as_tensor(seen, dtype=torch.float32)
        with torch.no_grad():
            self.posterior(context)


def seconds(action, repeats: int) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def ours(num_steps: int) -> tuple[float, float]:
    """Return seconds of one of our gradient steps, and of one environment step, as published."""
    config = recipe("half-cheetah-vel", "pearl", "paper")
    envs = make(config.env, config.num_episodes)

    def iteration(steps: int) -> float:
        agent = replace(config.agent, num_steps=steps, warm_steps=0, capacity=1_000)
        state = fresh_state(agent, envs.spec, seed=0)
        iterate = build_iteration(agent, envs, config.num_lanes)

        def run() -> None:
            nonlocal state
            state, _ = iterate(state)
            jax.block_until_ready(state.learner)

        run()
        return seconds(run, 3)

    one, many = iteration(1), iteration(1 + num_steps)
    step = (many - one) / num_steps
    trial_steps = config.num_lanes * envs.spec.trial_length
    return step, (one - step) / trial_steps


def share_of_products(num_steps: int) -> float:
    """Return the FLOP/s of our gradient steps over those of their matrix products alone."""
    config = recipe("half-cheetah-vel", "pearl", "paper")
    envs = make(config.env, config.num_episodes)
    agent = replace(config.agent, num_steps=num_steps, warm_steps=0, capacity=1_000)
    learner = agent.init(envs.spec, key=jax.random.key(0))
    key = jax.random.key(1)
    tasks, task_id = draw_tasks(agent, envs, config.num_lanes, jnp.int32(0), key=key)
    trial = run_trial(
        agent, learner.model, envs, tasks, task_id=task_id, explore=True, key=jax.random.key(2)
    )
    rate, peak = learner_rates(agent, learner, trial)
    return rate / peak


def main() -> None:
    """Measure both and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40, help="gradient steps to time")
    parser.add_argument("--episodes", type=int, default=2, help="episodes to time")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rendering, envs = Rendering(), HalfCheetahVel(np.random.default_rng(0))
    rendering.step()
    theirs = seconds(rendering.step, options.steps)
    their_life = seconds(lambda: rendering.live(envs), options.episodes) / HORIZON
    our_step, our_life = ours(options.steps)
    iteration = lambda step, life: 2_000 * step + 5_000 * life  # as published
    found = {
        "gradient_steps_per_s": {"torch": 1 / theirs, "trmrl": 1 / our_step},
        "env_steps_per_s": {"torch": 1 / their_life, "trmrl": 1 / our_life},
        "ratio_gradient_steps": theirs / our_step,
        "most_ratio_gradient_steps": theirs / our_step / share_of_products(options.steps),
        "ratio_env_steps": their_life / our_life,
        "ratio_iteration": iteration(theirs, their_life) / iteration(our_step, our_life),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
