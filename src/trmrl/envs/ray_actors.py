"""Lanes in actors of a Ray cluster, asked and answered as worker processes are (`python.py`)."""

import logging
from collections.abc import Callable
from typing import Any

from trmrl.types import TrmrlError


class Actor:
    """One process of a cluster, with the methods of a pipe's end that `Workers` uses."""

    def __init__(self, ray: Any, handle: Any) -> None:
        self._ray, self._handle, self._answer = ray, handle, None

    def send(self, request: Any) -> None:
        """Ask, without waiting."""
        self._answer = self._handle.answer.remote(request)

    def recv(self) -> Any:
        """Return the answer to the newest request; raises `EOFError` where the actor has died."""
        try:
            return self._ray.get(self._answer)
        except self._ray.exceptions.RayError as error:
            raise EOFError from error

    def close(self) -> None:
        """End the actor."""
        if self._ray.is_initialized():
            self._ray.kill(self._handle)


def start_actors(name: str, servers: list[Callable[[], Any]], address: str) -> list[Actor]:
    """Return an actor of one core for each of `servers()`, which has a method `answer(request)`.

    In the cluster that this process is connected to, else in that at `address`. Raises `TrmrlError`
    without Ray or without such a cluster.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise TrmrlError(f"{name}: lanes on Ray need it: pip install 'trmrl[sweep]'") from error
    if not ray.is_initialized():
        try:
            ray.init(address=address, logging_level=logging.ERROR)
        except ConnectionError as error:
            raise TrmrlError(f"{name}: there is no Ray cluster at {address!r}") from error
    # Accelerators are the learner's.
    on_cpu = {"env_vars": {"JAX_PLATFORMS": "cpu"}}
    serve = ray.remote(num_cpus=1, runtime_env=on_cpu)(_Served)
    return [Actor(ray, serve.remote(server)) for server in servers]


class _Served:
    """What runs in an actor."""

    def __init__(self, server: Callable[[], Any]) -> None:
        self._server = server()

    def answer(self, request: Any) -> Any:
        return self._server.answer(request)
