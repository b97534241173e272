"""Jobs: the durable queue with leases and fencing numbers, its pool of workers, and schedules."""
