"""How weights change: the optimizer's steps, the terms of a loss, stored experience."""
