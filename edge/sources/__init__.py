"""Where frames come from. Every source gives each frame the instant at which it was taken, as well as it knows.

A source is a context manager with ``frames()``, ``size_px``, ``frame_count`` and ``timing``; ``edge.assembly`` declares
that protocol. Nothing is imported here: ``edge.sources.video`` costs OpenCV, ``edge.sources.synthetic`` a calibration.
"""
