"""Functions that run inside Dask tasks: selection, grouping and counting on packed bits.

Only `analysis` enters; tasks carry what they need from here in parcels, see ``spiketape_worker``. Nothing in
here needs dask or xarray.
"""
