"""What users name, opened: `readers` of it, and `recordings`, which answer questions.

Whoever verifies, digests, packs or recovers needs readers alone, without the second that dask's arrays and
xarray take.
"""
