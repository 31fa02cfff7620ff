"""What is known of each library's neurons: a file a library, and `NeuronClass`, which says it.

Only `recorder.frameworks` enters. No library is imported in here.
"""
