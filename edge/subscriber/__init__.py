"""The platform side: keeps what poles publish, exactly once, and adds it up.

``reading`` understands messages, ``store`` keeps them in SQLite or PostgreSQL under UNIQUE (device, epoch, seq), and
``listening`` brings them from the broker. ``rollup`` adds windows up without ever cutting one. ``opendata`` and
``page`` tell the public. A reference: thin enough to be read before it is replaced by a city's own platform.
"""

from edge.subscriber.listening import Broker, Listener, ask_again
from edge.subscriber.opendata import read_places, write_open_data
from edge.subscriber.page import page_html
from edge.subscriber.reading import Numbered, Refused, read_message
from edge.subscriber.rollup import Cell, Grid, Total, roll_up, weekday_hours
from edge.subscriber.store import Added, Gap, Pole, Store

__all__ = [
    "Added",
    "Broker",
    "Cell",
    "Gap",
    "Grid",
    "Listener",
    "Numbered",
    "Pole",
    "Refused",
    "Store",
    "Total",
    "ask_again",
    "page_html",
    "read_message",
    "read_places",
    "roll_up",
    "weekday_hours",
    "write_open_data",
]
