"""What scripts/demo runs: a network that is trained and recorded, and a report on the recording.

The benchmark measures the same network.
"""
