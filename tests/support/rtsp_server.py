"""An RTSP server as a process of its own, run by the system's Python: GStreamer's bindings live there.

    /usr/bin/python3 rtsp_server.py PORT shared|single LAUNCH

Serves what the launch line of GStreamer makes (its last element is named pay0) at rtsp://127.0.0.1:PORT/street: one
stream for everybody, or one from its beginning for each client. Writes "ready" when it listens.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def main() -> None:
    port, who, launch = sys.argv[1:]
    Gst.init(None)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {launch} )")
    factory.set_shared(who == "shared")
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    server.get_mount_points().add_factory("/street", factory)
    if server.attach(None) == 0:
        sys.exit(f"port {port} is taken")
    print("ready", flush=True)
    GLib.MainLoop().run()


main()
