"""Training: one loop, the phases of Sec. 4.2, checkpoints."""

# an environment variable: set to anything, a finished training leaves its checkpoint, as whoever takes over its output
# may yet fail and start it again
KEEP = "GWAINET_KEEP_CHECKPOINTS"

# an environment variable: a file for the trace of some steps (`python -m gwainet STAGE --trace FILE`)
TRACE = "GWAINET_TRACE"
