"""The yardstick: the published TrMRL arithmetic on HalfCheetahVel, in plain PyTorch.

Lives here: one training epoch as the published code runs it, in our own words, and its clock.
Does not live here: anything of `trmrl`, of which only the half-cheetah's xml is read.

Fair on purpose. It acts as the published code does, lane by lane and step by step, re-encoding the
whole window each time; but it leaves out what an epoch there does besides its arithmetic: worker
and logging machinery, and the passes over the whole batch that only feed a log. The attention is
`nn.MultiheadAttention`, time first, weights materialised, as in PyTorch of that day: on a CPU that
is also the fastest of its layouts for a minibatch. The forward that only measures entropy and
divergence builds no graph.

    python benchmarks/torch_rendering.py --threads 2 --epochs 1 [--fraction 0.1]
"""

import argparse
import copy
import json
import math
import time
from pathlib import Path

import mujoco
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

XML = Path(__file__).parents[1] / "src" / "trmrl" / "envs" / "mujoco" / "half_cheetah.xml"

TASKS, EPISODES, HORIZON, WINDOW = 20, 2, 200, 5
ACT, TOKEN = 6, 20 + 6 + 2
WIDTH, HEADS, LAYERS, FF = 128, 16, 4, 512
GAMMA, LAMBDA, CLIP, PASSES, MINIBATCH = 0.9, 0.8, 0.1, 10, 256
STEPS = TASKS * EPISODES * HORIZON
BATCHES = PASSES * math.ceil(STEPS / MINIBATCH)  # 320, every pass ending in a short one
POLICY_PARAMS = 807_436


class HalfCheetahVel:
    """A half-cheetah rewarded for running at `velocity`; one `MjData`, stepped in a plain loop."""

    def __init__(self, rng: np.random.Generator):
        self.model = mujoco.MjModel.from_xml_path(str(XML))
        self.data = mujoco.MjData(self.model)
        self.torso = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_BODY, "torso")
        self.rng, self.frame_skip, self.velocity = rng, 5, 0.0
        self.dt = self.model.opt.timestep * self.frame_skip

    def observe(self) -> np.ndarray:
        """Return joint positions without x, velocities, and the torso's place: `[20]`."""
        data = self.data
        return np.concatenate([data.qpos[1:], data.qvel, data.xpos[self.torso]])

    def reset(self) -> np.ndarray:
        """Start an episode near the resting pose."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos += self.rng.uniform(-0.1, 0.1, self.model.nq)
        self.data.qvel += 0.1 * self.rng.standard_normal(self.model.nv)
        mujoco.mj_forward(self.model, self.data)
        return self.observe()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float]:
        """Advance one control step; MuJoCo clips the action, its cost does not."""
        before = self.data.qpos[0]
        self.data.ctrl[:] = action
        for _ in range(self.frame_skip):
            mujoco.mj_step(self.model, self.data)
        speed = (self.data.qpos[0] - before) / self.dt
        reward = -abs(speed - self.velocity) - 0.05 * float(np.square(action).sum())
        return self.observe(), reward


class Layer(nn.Module):
    """A transformer layer without layer normalisation: attention and a ReLU pair, each residual."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS)
        self.linear1, self.linear2 = nn.Linear(WIDTH, FF), nn.Linear(FF, WIDTH)
        scale = 0.67 * LAYERS**-0.25  # T-Fixup, as published
        with torch.no_grad():
            for linear in (self.linear1, self.linear2, self.attention.out_proj):
                nn.init.xavier_uniform_(linear.weight).mul_(scale)
            nn.init.xavier_uniform_(self.attention.in_proj_weight).mul_(scale * math.sqrt(2))

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        """Map `[window, batch, width]` to the same."""
        h = h + self.attention(h, h, h, attn_mask=mask)[0]
        return h + self.linear2(torch.relu(self.linear1(h)))


def tanh_mlp(size_in: int, size_out: int) -> nn.Sequential:
    """Return a 64-64 tanh network, Xavier weights and zero biases."""
    linears = [nn.Linear(size_in, 64), nn.Linear(64, 64), nn.Linear(64, size_out)]
    for linear in linears:
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
    return nn.Sequential(linears[0], nn.Tanh(), linears[1], nn.Tanh(), linears[2])


def diagonal_gaussian(mean: Tensor, log_std: Tensor) -> Independent:
    """Return the distribution both heads speak, unchecked as in PyTorch of that day."""
    std = log_std.clamp(min=math.log(1e-6)).exp().expand_as(mean)
    return Independent(Normal(mean, std, validate_args=False), 1, validate_args=False)


class Policy(nn.Module):
    """The memory transformer with its Gaussian head."""

    position: Tensor
    mask: Tensor

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(TOKEN, WIDTH, bias=False)
        nn.init.normal_(self.embed.weight, std=WIDTH**-0.5 * (9 * LAYERS) ** -0.25)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.head = tanh_mlp(WIDTH, ACT)
        self.log_std = nn.Parameter(torch.full((ACT,), math.log(0.2)))
        angle = torch.arange(WINDOW)[:, None] / 10_000 ** (torch.arange(0, WIDTH, 2) / WIDTH)
        position = torch.stack([angle.sin(), angle.cos()], dim=-1).reshape(WINDOW, 1, WIDTH)
        self.register_buffer("position", position, persistent=False)
        self.register_buffer("mask", torch.full((WINDOW, WINDOW), -math.inf).triu(1), False)

    def forward(self, windows: Tensor) -> Independent:
        """Return the action distribution at the last filled slot of `[batch, window, token]`."""
        filled = (windows != 0).any(-1).sum(-1)  # slots fill in order; only later ones are blank
        h = self.embed(windows.transpose(0, 1)) + self.position
        for layer in self.layers:
            h = layer(h, self.mask)
        memory = h[filled - 1, torch.arange(h.shape[1])]
        return diagonal_gaussian(self.head(memory), self.log_std)


class Value(nn.Module):
    """The Gaussian value function, which sees the current token alone."""

    def __init__(self):
        super().__init__()
        self.mlp = tanh_mlp(TOKEN, 1)
        self.log_std = nn.Parameter(torch.zeros(1))

    def forward(self, tokens: Tensor) -> Independent:
        """Return the distribution of the return-to-go from `[..., token]`."""
        return diagonal_gaussian(self.mlp(tokens), self.log_std)


class Rendering:
    """The learner and its world, between epochs."""

    def __init__(self, seed: int = 0):
        torch.manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.env = HalfCheetahVel(self.rng)
        self.policy, self.value = Policy(), Value()
        self.old_policy = copy.deepcopy(self.policy)
        self.params = sum(p.numel() for p in self.policy.parameters())
        assert self.params == POLICY_PARAMS, f"{self.params} parameters, not {POLICY_PARAMS}"
        adamw = torch.optim.AdamW  # decaying by its default, 0.01
        self.policy_opt = adamw(self.policy.parameters(), lr=3e-5)
        self.value_opt = adamw(self.value.parameters(), lr=2.5e-4)
        self.laps: list[float] = []  # seconds of each policy minibatch

    @torch.no_grad()
    def collect(self, tasks: int) -> tuple[Tensor, ...]:
        """Act in `tasks` trials, one after another: windows, tokens, actions, rewards by trial."""
        length = EPISODES * HORIZON
        windows = np.zeros((tasks, length, WINDOW, TOKEN), np.float32)
        tokens = np.zeros((tasks, length, TOKEN), np.float32)
        actions = np.zeros((tasks, length, ACT), np.float32)
        rewards = np.zeros((tasks, length), np.float32)
        for lane in range(tasks):
            self.env.velocity = self.rng.uniform(0.0, 3.0)
            for t in range(0, length, HORIZON):
                window = np.zeros((WINDOW, TOKEN), np.float32)
                obs, action, reward = self.env.reset(), np.zeros(ACT), 0.0
                for step in range(HORIZON):
                    token = np.concatenate([obs, action, [reward, 0.0]])
                    if step >= WINDOW:
                        window[:-1] = window[1:].copy()
                    window[min(step, WINDOW - 1)] = token
                    action = self.policy(torch.as_tensor(window)[None]).sample()[0].numpy()
                    obs, reward = self.env.step(action)
                    windows[lane, t + step], tokens[lane, t + step] = window, token
                    actions[lane, t + step], rewards[lane, t + step] = action, reward
        return tuple(torch.from_numpy(array) for array in (windows, tokens, actions, rewards))

    @torch.no_grad()
    def advantages(self, tokens: Tensor, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """Return advantages and returns-to-go `[tasks, time]`; the trial's end is a terminal."""
        baselines = self.value(tokens).mean[..., 0]
        gaes, returns = torch.zeros_like(rewards), torch.zeros_like(rewards)
        gae = after = to_go = torch.zeros(rewards.shape[0])
        for t in reversed(range(EPISODES * HORIZON)):
            gae = rewards[:, t] + GAMMA * after - baselines[:, t] + GAMMA * LAMBDA * gae
            to_go = rewards[:, t] + GAMMA * to_go
            gaes[:, t], returns[:, t], after = gae, to_go, baselines[:, t]
        return gaes, returns

    def policy_step(self, windows: Tensor, actions: Tensor, advantages: Tensor):
        """Take one clipped PPO step: three forwards of the policy and one backward."""
        with torch.no_grad():
            old = self.old_policy(windows)
            old_log_prob = old.log_prob(actions)
        ratio = (self.policy(windows).log_prob(actions) - old_log_prob).exp()
        clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
        loss = -torch.min(ratio * advantages, clipped * advantages).mean()
        with torch.no_grad():
            now = self.policy(windows)
            # The entropy's coefficient is zero: both are only reported.
            self.report = now.entropy().mean(), kl_divergence(old, now).mean()
        self.policy_opt.zero_grad()
        loss.backward()
        self.policy_opt.step()

    def value_step(self, tokens: Tensor, returns: Tensor):
        """Take one step on the Gaussian negative log-likelihood of the returns."""
        loss = -self.value(tokens).log_prob(returns[:, None]).mean()
        self.value_opt.zero_grad()
        loss.backward()
        self.value_opt.step()

    def epoch(self, fraction: float = 1.0) -> dict[str, float]:
        """Run one published training epoch and return the seconds of its stages.

        A `fraction` below one runs that part of the trials and of the minibatches (drawn from the
        fewer windows, repeated) and scales their seconds up to the whole.
        """
        tasks = max(1, round(fraction * TASKS))
        batches = max(1, round(fraction * BATCHES))
        clock = [time.perf_counter()]
        windows, tokens, actions, rewards = self.collect(tasks)
        clock.append(time.perf_counter())
        trials = windows, tokens, actions, *self.advantages(tokens, rewards)
        windows, tokens, actions, advantages, returns = (array.flatten(0, 1) for array in trials)
        clock.append(time.perf_counter())
        for ids in minibatches(batches, len(windows)):
            began = time.perf_counter()
            self.policy_step(windows[ids], actions[ids], advantages[ids])
            self.laps.append(time.perf_counter() - began)
        self.old_policy.load_state_dict(self.policy.state_dict())
        clock.append(time.perf_counter())
        for ids in minibatches(batches, len(windows)):
            self.value_step(tokens[ids], returns[ids])
        clock.append(time.perf_counter())
        collect, advantage, policy, value = np.diff(clock)
        return {
            "collect_s": collect * TASKS / tasks,
            "advantage_s": advantage,  # unscaled: its loop is over time
            "policy_s": policy * BATCHES / batches,
            "value_s": value * BATCHES / batches,
        }


def minibatches(count: int, rows: int):
    """Yield `count` index minibatches of shuffled passes over an epoch's steps."""
    while count > 0:
        for ids in torch.randperm(STEPS).split(MINIBATCH)[:count]:
            yield ids % rows
            count -= 1


def measure(threads: int = 2, fraction: float = 1.0, epochs: int = 1) -> dict[str, float | str]:
    """Time whole epochs, after a short warm-up, and return their mean as one flat record.

    A mean minibatch far above the median one tells of another process on the same cores, beside
    which PyTorch's threads lose tenfold: measure again on a quiet machine.
    """
    torch.set_num_threads(threads)
    Rendering().epoch(1 / BATCHES)
    rendering = Rendering()
    runs = [rendering.epoch(fraction) for _ in range(epochs)]
    seconds = {stage: sum(run[stage] for run in runs) / epochs for stage in runs[0]}
    return {
        "env_steps_per_s": STEPS / sum(seconds.values()),
        **seconds,
        "ms_per_policy_minibatch": 1e3 * seconds["policy_s"] / BATCHES,
        "ms_per_policy_minibatch_median": 1e3 * float(np.median(rendering.laps)),
        "ms_per_env_step": 1e3 * seconds["collect_s"] / STEPS,
        "params": rendering.params,
        "threads": threads,
        "epochs": epochs,
        "fraction": fraction,
        "extrapolated": fraction < 1,
        "torch": torch.__version__,
    }


def main():
    parser = argparse.ArgumentParser(description="Time the published TrMRL epoch in PyTorch.")
    parser.add_argument("--threads", type=int, default=2, help="PyTorch's intra-op threads")
    parser.add_argument("--epochs", type=int, default=1, help="epochs to run and average")
    parser.add_argument("--fraction", type=float, default=1.0, help="part of an epoch to run")
    print(json.dumps(measure(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
