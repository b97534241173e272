"""Watch: what machines are busy with, kept at falling resolution, and what work has used.

Meters come from nodes' heartbeats and from the host itself (`recording`); `reading` gives them as
series for pages, REST and command line; `gauges` gives the newest to Prometheus; `usage` sums up
what runs have used, by day, project and person.
"""
