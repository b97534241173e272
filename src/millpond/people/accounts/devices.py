"""What a request tells of the device that it comes from."""

from fastapi import Request

from millpond.people.values import Device

_ADDRESS_MOST, _AGENT_MOST = 64, 200


def device_of(request: Request) -> Device:
    """Give the address that a request comes from, and what its program says that it is."""
    agent = request.headers.get("user-agent", "")
    printable = "".join(letter for letter in agent if letter.isprintable())
    return Device(address_of(request), printable[:_AGENT_MOST])


def address_of(request: Request) -> str:
    """Give the address that a request comes from, as limits and sessions keep it."""
    return request.client.host[:_ADDRESS_MOST] if request.client else ""
