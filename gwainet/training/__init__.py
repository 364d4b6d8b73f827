"""Training: one loop, the phases of Sec. 4.2, checkpoints."""
