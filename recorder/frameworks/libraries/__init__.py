"""Facts about the neurons of each library: a file a library, and `NeuronClass`, which states them.

Only `recorder.frameworks` enters. No library is imported in here.
"""
