"""The commit record: what it says of the recording, of each layer and of its signals, and how that is JSON.

Whoever reads or writes recordings may enter; `recorder.format` exports what most of them need.
"""
