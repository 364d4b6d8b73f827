"""What the stage `benchmark` is made of: the systems, their answers, the report, and how it is shown."""
