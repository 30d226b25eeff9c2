"""Run folders of untrained agents with telling weights."""

from collections.abc import Callable

import jax
import numpy as np
import pytest

from trmrl import config as configs
from trmrl.config import Config
from trmrl.envs import ENVS, make
from trmrl.run import Run
from trmrl.types import TrainState, replace


@pytest.fixture(scope="module")
def save_run(tmp_path_factory, small_agent, shake, drift) -> Callable:
    """`save_run(env, core="window", name="run")`: the path of a run folder on a world."""

    def save(env, core="window", name="run"):
        run = Run(tmp_path_factory.mktemp("runs") / name)
        agent = small_agent(core, normalize_obs=False)
        config = Config(env, core, "default", agent, env_steps=10_000, num_lanes=2)
        run.create(configs.to_json(config))
        learner = agent.init(make(env).spec, key=jax.random.key(0))
        learner = replace(learner, model=shake(learner.model))
        zero = np.zeros((), np.int64)
        run.save(TrainState(learner, jax.random.key(0), zero, zero))
        return run.path

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENVS, "host-drift", lambda: drift(host=True))
        yield save
