"""Starting: the filled form of a pipeline, from defaults, presets, runs and addresses to a run."""
