"""What the statistics have in common: from a question to a labelled array.

Only `analysis.statistics` enters; what is here knows no statistic by name.
"""
