"""One layer on its way to the store and back: events, planes, counts and signals, chunk by chunk.

`recorder.tape` puts layers together to recordings; readers of layers are given out by it.
"""
