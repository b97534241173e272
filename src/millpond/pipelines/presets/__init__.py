"""Presets: named fillings of a pipeline's form, kept in the project for everybody in it."""
