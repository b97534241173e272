"""The machines' meters over the SDK; for administrators."""

from millpond.client.decoding import decode
from millpond.client.room import Room
from millpond.client.transport import place
from millpond.watch.values import Monitor, Range


class MonitorRoom(Room):
    """What the machines are busy with."""

    def get(self, since: Range = "1h") -> Monitor:
        """Show the meters of every machine, the host first; ``since`` is 15m, 1h, 1d or 30d."""
        return decode(Monitor, self._transport.get("/monitor", {"range": since}))

    def node(self, name: str, since: Range = "1h") -> Monitor:
        """Show the meters of one machine in finer steps; ``local`` is the host."""
        return decode(Monitor, self._transport.get(place("monitor", name), {"range": since}))
