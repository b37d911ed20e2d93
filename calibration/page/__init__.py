"""A small web page to calibrate in: click marks in a still, enter metres, draw the zone, see how good it is, save.

The device serves it to one technician: on 127.0.0.1 unless told otherwise, under a secret address that is new at every
start, and only until the calibration is saved. The browser keeps what is typed; the device keeps it too, judges it with
the same code as ``calibrate solve``, and answers with what to draw. Nothing is loaded from anywhere else.
"""

from calibration.page.draft import Draft
from calibration.page.server import PageServer
from calibration.page.workbench import Workbench

__all__ = ["Draft", "PageServer", "Workbench"]
