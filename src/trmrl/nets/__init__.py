"""The menu of memory cores, by name."""

from trmrl.nets.core import AbstractCoreConfig
from trmrl.nets.gru import GRUConfig
from trmrl.nets.gtrxl import GTrXLConfig
from trmrl.nets.lstm import LSTMConfig
from trmrl.nets.snail import SNAILConfig
from trmrl.nets.transformer import TransformerConfig

CORES: dict[str, type[AbstractCoreConfig]] = {
    "transformer": TransformerConfig,
    "gtrxl": GTrXLConfig,
    "snail": SNAILConfig,
    "gru": GRUConfig,
    "lstm": LSTMConfig,
}
