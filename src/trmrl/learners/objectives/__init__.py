"""The menu of objectives: the weighted terms that a recipe may add to PPO's own."""

import dataclasses

from trmrl.learners.objectives.base import AbstractObjective, Chunks
from trmrl.learners.objectives.elbo import ELBO
from trmrl.learners.objectives.masked import MaskedSteps
from trmrl.learners.objectives.novelty import Novelty
from trmrl.learners.objectives.policy import Entropy, Surrogate, Value
from trmrl.learners.objectives.prediction import Prediction
from trmrl.settings import AbstractSettings
from trmrl.types import EnvSpec

__all__ = [
    "ELBO",
    "AbstractObjective",
    "Chunks",
    "Entropy",
    "MaskedSteps",
    "Novelty",
    "Objectives",
    "Prediction",
    "Surrogate",
    "Value",
]


class Objectives(AbstractSettings):
    """The menu: what a loss holds besides the surrogate and the value; `coef` 0 leaves one out.

    `others` are one's own, given from Python.
    """

    entropy: Entropy = Entropy()
    prediction: Prediction = Prediction()
    elbo: ELBO = ELBO()
    novelty: Novelty = Novelty()
    masked: MaskedSteps = MaskedSteps()
    others: tuple[AbstractObjective, ...] = ()

    def check(self, spec: EnvSpec) -> str | None:
        """Return a complaint where two objectives would share a name, and so a head."""
        del spec
        names = [type(objective).__name__ for objective in self.listed()]
        twice = sorted({name for name in names if names.count(name) > 1})
        return f"others has {', '.join(twice)} more than once" if twice else None

    def listed(self) -> tuple[AbstractObjective, ...]:
        """Return every objective that counts, in the order of the menu."""
        names = (declared.name for declared in dataclasses.fields(self))
        menu = (getattr(self, name) for name in names if name != "others")
        return tuple(objective for objective in (*menu, *self.others) if objective.coef)
