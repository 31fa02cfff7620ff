"""Statistics as tables: a question in words, the rows of its answer, and shards of both.

The commands `spiketape stats` and `spiketape merge` are here; `rates` uses what they use.
"""
