"""Run folders made by hand."""

from collections.abc import Callable
from typing import Any

import pytest

from trmrl.run import Run


@pytest.fixture
def make_run(tmp_path) -> Callable:
    """`make_run(name, records, returns=..., success=..., any field of the config)`: a folder.

    A record is `(env_steps, seconds, test_return or None)`, a fourth where it logged
    `test_success`, and a fifth where it logged `test_experience`; each had a return of
    [1, 3] in training.
    """

    def make(
        name: str, records: Any = (), *, returns: Any = None, success: Any = None, **config: Any
    ) -> Run:
        run = Run(tmp_path / name)
        run.create({"env": "somewhere", "agent_name": "somebody", "seed": 0} | config)
        for i, (env_steps, seconds, tested, *rest) in enumerate(records, start=1):
            record = {"updates": i, "env_steps": env_steps, "return": [1.0, 3.0]}
            record |= {} if seconds is None else {"seconds": seconds}
            record |= {} if tested is None else {"test_return": tested}
            more = zip(("test_success", "test_experience"), rest, strict=False)
            run.log(record | {name: value for name, value in more if value is not None})
        run.close()
        if returns is not None:
            run.write_evaluation("test", evaluation(returns, success=success))
        return run

    return make


def evaluation(returns: Any, success: Any = None, **fields: Any) -> dict[str, Any]:
    """An evaluation as an older version wrote it, its interval made up."""
    num_episodes = len(returns[0])
    row = lambda *numbers: {
        name: [number] * num_episodes
        for name, number in zip(("mean", "ci95_low", "ci95_high"), numbers, strict=True)
    }
    if success is not None:  # whatever succeeded did so at its end, too, in every second lane
        fields["success"] = success
        fields["success_at_end"] = [[share / 2 for share in task] for task in success]
        fields["success_per_episode"] = row(0.5, 0.25, 0.75)
        fields["success_at_end_per_episode"] = row(0.25, 0.125, 0.375)
    return {
        "env": "somewhere",
        "split": "test",
        "explore": False,
        "seed": 0,
        "num_tasks": len(returns),
        "num_episodes": num_episodes,
        "env_steps": 12_000,
        "returns": returns,
        "return_per_episode": row(1.5, 1.0, 2.25),
    } | fields


@pytest.fixture(name="evaluation")
def evaluation_fixture() -> Callable:
    """`evaluation(returns [tasks][episodes], success=[tasks][episodes], any other field)`."""
    return evaluation
