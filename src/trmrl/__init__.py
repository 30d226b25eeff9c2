"""Meta-reinforcement learning by memory: agents that learn a new task by forward passes alone."""

from trmrl.config import Config as Config
from trmrl.controller import Controller as Controller
from trmrl.controller import load as load
from trmrl.envs import ENVS as ENVS
from trmrl.envs import make as make
from trmrl.evaluate import evaluate as evaluate
from trmrl.recipes import recipe as recipe
from trmrl.run import Run as Run
from trmrl.train import train as train
from trmrl.trial import run_trial as run_trial
from trmrl.types import Evaluation as Evaluation
from trmrl.types import TrmrlError as TrmrlError
