"""Runs to pictures and tables. Reads run folders and nothing else."""
