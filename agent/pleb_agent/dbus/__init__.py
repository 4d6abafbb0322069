"""Clients of the desktop's services: one D-Bus client, and the stream below every wire protocol.

Shared by the probe, the tray, the sensors and the notifications. The probe may take 14 MB and the
tray 15, of which bare Python is 9, so these modules import almost nothing.
"""
