"""The menu of agents; a recipe decides what becomes of one (`recipes/`)."""

from trmrl.agents.maml import MAML
from trmrl.agents.memory import MemoryAgent
from trmrl.agents.pearl import PEARL

AGENTS = MemoryAgent, PEARL, MAML
