"""Values other than 0 and 1: levels and their planes, the scale that they are multiples of, bits at events.

What else needs them takes the functions of each file.
"""
