"""Published totals of the classical strategies, per world and strategy.

The tables of Duan et al. (2016), "RL²: Fast Reinforcement Learning via Slow Reinforcement
Learning", sections 3.1 and 3.2, and the bandit that Mishra et al. (2018), "A Simple Neural
Attentive Meta-Learner", added to them. What we measure is in `docs/results/references.md`.
"""

_BANDIT_COLUMNS = ("random", "gittins", "thompson", "optimistic-thompson", "ucb1", "epsilon-greedy",
                   "greedy", "RL²")  # fmt: skip
_BANDIT_ROWS = {
    "bandit-n10-k5": (5.0, 6.6, 5.7, 6.5, 6.7, 6.6, 6.6, 6.7),
    "bandit-n10-k10": (5.0, 6.6, 5.5, 6.2, 6.7, 6.6, 6.6, 6.7),
    "bandit-n10-k50": (5.1, 6.5, 5.2, 5.5, 6.6, 6.5, 6.5, 6.8),
    "bandit-n100-k5": (49.9, 78.3, 74.7, 77.9, 78.0, 75.4, 74.8, 78.7),
    "bandit-n100-k10": (49.9, 82.8, 76.7, 81.4, 82.4, 77.4, 77.1, 83.5),
    "bandit-n100-k50": (49.8, 85.2, 64.5, 67.7, 84.3, 78.3, 78.0, 84.9),
    "bandit-n500-k5": (249.8, 405.8, 402.0, 406.7, 405.8, 388.2, 380.6, 401.6),
    "bandit-n500-k10": (249.0, 437.8, 429.5, 438.9, 437.1, 408.0, 395.0, 432.5),
    "bandit-n500-k50": (249.6, 463.7, 427.2, 437.6, 457.6, 413.6, 402.8, 438.9),
}
_TABULAR_COLUMNS = ("random", "psrl", "opsrl", "ucrl2", "beb", "epsilon-greedy", "greedy", "RL²")
_TABULAR_ROWS = {
    "tabular-n10": (100.1, 138.1, 144.1, 146.6, 150.2, 132.8, 134.8, 156.2),
    "tabular-n25": (250.2, 408.8, 425.2, 424.1, 427.8, 377.3, 368.8, 445.7),
    "tabular-n50": (499.7, 904.4, 930.7, 918.9, 917.8, 823.3, 769.3, 936.1),
    "tabular-n75": (749.9, 1417.1, 1449.2, 1427.6, 1422.6, 1293.9, 1172.9, 1428.8),
    "tabular-n100": (999.4, 1939.5, 1973.9, 1942.1, 1935.1, 1778.2, 1578.5, 1913.7),
}
PUBLISHED: dict[str, dict[str, float]] = {
    env: dict(zip(columns, row, strict=True))
    for columns, rows in ((_BANDIT_COLUMNS, _BANDIT_ROWS), (_TABULAR_COLUMNS, _TABULAR_ROWS))
    for env, row in rows.items()
}
PUBLISHED["bandit-n1000-k50"] = {"random": 499.8, "gittins": 944.1, "RL²": 847.4}
