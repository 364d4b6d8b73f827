"""Ratios of speed: forms of one computation, interleaved in one run (docs/performance.md)."""
