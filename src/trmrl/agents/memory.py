"""An agent that adapts by memory alone: TrMRL, RL² and their kin.

Its core decides which of them it is. Rows become tokens, the core turns tokens into features, a
policy head and a value head read the features. How the weights change is its algorithm's part.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from trmrl.agents.base import AbstractAgent, TaskPlan
from trmrl.learners.ppo import PPO
from trmrl.nets.core import AbstractCoreConfig
from trmrl.nets.embed import token_size
from trmrl.nets.heads import HeadConfig, policy_head
from trmrl.nets.linear import MLP
from trmrl.nets.network import Critic, MemoryScope, Model, Network, ValueInput
from trmrl.nets.readout import AbstractReadoutConfig, FeatureConfig
from trmrl.nets.transformer import TransformerConfig
from trmrl.ops.normalize import unit_moments
from trmrl.types import (
    Decision,
    EnvSpec,
    LaneKeys,
    Learner,
    Memory,
    Metrics,
    PRNGKey,
    Timestep,
    Trajectory,
    Trial,
)


class MemoryAgent(AbstractAgent):
    """A memory core with a policy and a value on what is read of its features.

    memory_scope: memory is emptied at the start of every trial, or of every episode. value_input:
    the value reads what the policy reads (and trains the core), or the current token alone.
    normalize_obs: by running moments, which change between updates only.
    """

    core: AbstractCoreConfig = TransformerConfig()
    readout: AbstractReadoutConfig = FeatureConfig()
    head: HeadConfig = HeadConfig()
    memory_scope: MemoryScope = "trial"
    value_input: ValueInput = "feature"
    normalize_obs: bool = True
    algorithm: PPO = PPO()
    plan: TaskPlan = TaskPlan()

    def init(self, spec: EnvSpec, *, key: PRNGKey) -> Learner:
        """Return fresh weights for worlds like `spec`."""
        core_key, policy_key, value_key, readout_key = jax.random.split(key, 4)
        size = token_size(spec)
        core = self.core.build(size, spec.trial_length, key=core_key)
        readout = self.readout.build(core.feature_size, spec.obs_size, key=readout_key)
        value_size = {"feature": readout.size, "token": size}[self.value_input]
        network = Network(
            core=core,
            readout=readout,
            policy=policy_head(readout.size, spec.action_space, self.head, key=policy_key),
            critic=Critic(MLP((value_size, *self.head.hidden, 1), key=value_key), jnp.zeros(())),
            heads=self.algorithm.build(core, readout, spec, self.head, key=value_key),
            value_input=self.value_input,
        )
        model = Model(
            network=network,
            obs_moments=unit_moments((spec.obs_size,)),
            return_moments=unit_moments(()),
            memory_scope=self.memory_scope,
            normalize_obs=self.normalize_obs,
        )
        return self.algorithm.start(model, spec)

    def start(self, model: Model, num_lanes: int) -> Memory:
        """Return the core's empty memory."""
        return model.network.core.start(num_lanes)

    def act(
        self, model: Model, memory: Memory, timestep: Timestep, *, explore: bool, key: LaneKeys
    ) -> tuple[Memory, Decision]:
        """Take the token into memory and answer from the feature it leaves."""
        network = model.network
        tokens, start = model.tokens(timestep)
        memory, feature = network.core.step(memory, tokens, start)
        read = network.readout(feature, tokens)
        policy = network.policy(read)
        action = policy.sample(key=key) if explore else policy.mode()
        return memory, Decision(action, policy.log_prob(action), network.value(read, tokens))

    def adapt(self, model: Model, memory: Memory, episode: Trajectory) -> Memory:
        """Return the memory as it is: every step has been taken in already."""
        del model, episode
        return memory

    def update(
        self, learner: Learner, trial: Trial, *, env_steps: Float[jax.Array, ""], key: PRNGKey
    ) -> tuple[Learner, Metrics]:
        """Return the learner after its algorithm's steps on a trial."""
        return self.algorithm.update(learner, trial, env_steps=env_steps, key=key)
