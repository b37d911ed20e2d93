"""Tracking: one identity per road user, in metres and seconds on the road."""

from edge.track.tracker import LiveTrack, Tracker

__all__ = ["LiveTrack", "Tracker"]
