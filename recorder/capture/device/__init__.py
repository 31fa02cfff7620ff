"""Packs outputs on the accelerator where they are, and copies packed bytes while the network goes on.

The rest of `recorder.capture` enters; nothing here waits for the network.
"""
