"""Worlds simulated by MuJoCo's C engine on the host, many lanes at once."""
