"""Engine: runs tasks: the port to compute, its adapters, the sandbox, staging in and taking out."""
