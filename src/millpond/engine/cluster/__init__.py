"""The engine on many machines: Dask carries the tasks, our books say which node takes which."""
