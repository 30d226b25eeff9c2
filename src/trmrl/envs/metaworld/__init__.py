"""Meta-World's worlds, on MuJoCo 4: `ml1-<task>`, `ml10`, `ml25` and `ml45`.

The page is `docs/envs/meta-world.md`.
"""
