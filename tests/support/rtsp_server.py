"""An RTSP server as a process of its own, run by the system's Python: GStreamer's bindings live there.

    /usr/bin/python3 rtsp_server.py PORT WIDTH HEIGHT RATE [FILE.mp4]

Serves a moving test picture (H.264) at rtsp://127.0.0.1:PORT/street, or the H.264 of a file, once for each
client. Writes "ready" when it listens.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def main() -> None:
    port, width, height, rate, *file = sys.argv[1:]
    Gst.init(None)
    factory = GstRtspServer.RTSPMediaFactory()
    if file:
        launch = f"filesrc location={file[0]} ! qtdemux ! h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96"
    else:
        launch = (
            f"videotestsrc is-live=true pattern=ball flip=true ! video/x-raw,format=I420,width={width},"
            f"height={height},framerate={rate}/1 ! openh264enc gop-size={rate} ! rtph264pay name=pay0 pt=96"
        )
    factory.set_launch(f"( {launch} )")
    factory.set_shared(not file)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    server.get_mount_points().add_factory("/street", factory)
    if server.attach(None) == 0:
        sys.exit(f"port {port} is taken")
    print("ready", flush=True)
    GLib.MainLoop().run()


main()
