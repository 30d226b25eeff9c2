"""Run folders made by hand."""

from collections.abc import Callable
from typing import Any

import pytest

from trmrl.run import Run


@pytest.fixture
def make_run(tmp_path) -> Callable:
    """`make_run(name, records, returns=..., any field of the config)`: a folder with metrics.

    A record is `(env_steps, seconds, test_return or None)`; it lived a return of [1, 3].
    """

    def make(name: str, records: Any = (), *, returns: Any = None, **config: Any) -> Run:
        run = Run(tmp_path / name)
        run.create({"env": "somewhere", "agent_name": "somebody", "seed": 0} | config)
        for i, (env_steps, seconds, tested) in enumerate(records, start=1):
            record = {"updates": i, "env_steps": env_steps, "return": [1.0, 3.0]}
            record |= {} if seconds is None else {"seconds": seconds}
            run.log(record | ({} if tested is None else {"test_return": tested}))
        run.close()
        if returns is not None:
            run.write_evaluation("test", evaluation(returns))
        return run

    return make


def evaluation(returns: Any, **fields: Any) -> dict[str, Any]:
    num_episodes = len(returns[0])
    told = {"mean": [1.5] * num_episodes, "ci95_low": [1.0] * num_episodes}
    told["ci95_high"] = [2.25] * num_episodes
    return {
        "split": "test",
        "explore": False,
        "seed": 0,
        "num_tasks": len(returns),
        "num_episodes": num_episodes,
        "env_steps": 12_000,
        "returns": returns,
        "return_per_episode": told,
    } | fields


@pytest.fixture(name="evaluation")
def evaluation_fixture() -> Callable:
    """`evaluation(returns [tasks][episodes], any other field)`."""
    return evaluation
