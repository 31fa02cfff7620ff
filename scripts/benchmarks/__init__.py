"""What scripts/benchmark runs: a section of the benchmark a file, and what sections share.

``__main__`` chooses sections; each measures with ``harness``, on the networks and spikes of ``data``, beside
the recorders of ``peers``.
"""
