"""Formulas of statistics: pure functions that make figures of exact integer sums and of matrices of counts.

Everything in `analysis` may enter; this room itself knows numpy and the type aliases of
`recorder.format.bits`, and nothing of files, tasks or axes.
"""
