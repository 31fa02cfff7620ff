"""The sections of the report, a file for some of them: which statistics each asks, and what it shows.

Only `analysis.report` enters.
"""
