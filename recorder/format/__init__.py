"""The on-disk format, shared by `recorder` and `analysis`: numpy, zarr and numcodecs; no torch, no dask.

FORMAT.md beside this file is the contract. The modules, from the bits up: `bits` (packed bits and counting),
`chunks` (one stored chunk), `layout` (names, shapes, chunk plan), `metadata` (the commit record), `stores`
(where bytes live), `tables`, `segments` and `trials` (the small arrays), `tape` (writing) and `reading`.
"""
