"""Uploads that may be interrupted and go on (tus 1.0): parts come in, a content comes out."""
