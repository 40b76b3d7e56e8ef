"""Orders of a small shop."""

import logging

log = logging.getLogger(__name__)
NOTHING = ()


def place(order, extras=[], notes=NOTHING):
    """An order with what goes with it."""
    extras.append("receipt")
    return {"order": order, "extras": extras, "notes": notes}


def total(prices, discounts={}):
    return sum(price - discounts.get(name, 0) for name, price in prices.items())


def parse(line, separators=(",", ";")):
    try:
        return line.split(separators[0])
    except AttributeError:
        # A bare except: would hide the typing error above.
        return []


def send(order, gateway):
    try:
        gateway.send(order)
    except:
        log.warning("order %s was not sent", order["id"])


def ping(gateway):
    try:
        gateway.ping()
    except:  # loop-runner: ignore[bare-except] a watchdog restarts us whatever is raised here
        return False
    return True


# TODO: round to whole cents
def net(gross, rate=0.19):
    return gross / (1 + rate)
