"""How the same facts are said to different platforms: one module for each dialect.

A profile turns what the device has to say into messages: topic and bytes. ``native`` is always spoken, because it
carries status, commands and acknowledgements; others may be spoken beside it.
"""

from edge.publish.profiles.homeassistant import HomeAssistant
from edge.publish.profiles.message import Message, Profile
from edge.publish.profiles.native import Native
from edge.publish.profiles.ngsi_ld import NgsiLd

__all__ = ["HomeAssistant", "Message", "Native", "NgsiLd", "Profile"]
