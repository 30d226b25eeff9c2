"""The loop, one screen, the same for every agent."""

import time
import jax, numpy as np
from trmrl.trial import run_trial

def train(agent, envs, num_lanes, budget, seed, log=print, eval_every=0):
    import equinox as eqx
    key = jax.random.key(seed)
    state = agent.init(envs.spec, key=jax.random.fold_in(key, 0))
    def collect(state):
        k = jax.random.fold_in(state.key, 1)
        tk, rk = jax.random.split(k)
        tasks = envs.sample_tasks("train", num_lanes, key=tk)
        return run_trial(agent, state.model, envs, tasks, explore=True, key=rk)
    upd = eqx.filter_jit(agent.update)
    t0 = time.time()
    tc = tu = 0
    while int(state.env_steps) < budget:
        a = time.time()
        trial = collect(state)
        b = time.time()
        state, m = upd(state, trial)
        m = {k: float(v) for k, v in m.items()}
        c = time.time()
        tc += b - a; tu += c - b
        ret = np.asarray(trial.outcome.reward.sum(1).mean(1))
        log(int(state.updates), int(state.env_steps), f"{time.time()-t0:.0f}s c{b-a:.2f} u{c-b:.2f}", np.round(ret, 1), {k: round(v, 4) for k, v in m.items()})
    return state
