"""Other papers' systems, written from what they published, trained and measured as ours are (docs/baselines.md).

A file a network, each with `forward(i_lr, i_lru, i_gi) -> Generated`; `model` makes whole models of them, `phases`
trains them, `budget` says how long. No code of theirs is in it.
"""
