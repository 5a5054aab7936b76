"""What is asked of a trace: replays, curves, sweeps, and the figures they give."""
