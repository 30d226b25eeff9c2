"""Looking inside trained agents: `trmrl analyze RUN`. Begin with `menu.py`."""
