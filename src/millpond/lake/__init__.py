"""Lake: datasets and their immutable versions, made of content-addressed files."""
