"""As much of Xlib as an icon in an old tray needs, by ctypes.

Source: X11/Xlib.h and the Xlib manual (https://www.x.org/releases/current/doc/libX11/). python-xlib
would take 7 MB of memory for the same.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_long, c_uint, c_ulong, c_void_p
from typing import Any, Final

from pleb_agent.tray.errors import NoDisplayError

__all__ = ["Event", "XDisplay", "over"]

EXPOSURE: Final = 1 << 15
BUTTON_PRESS: Final = 1 << 2
STRUCTURE_NOTIFY: Final = 1 << 17
_PARENT_RELATIVE: Final = 1
_ALL_PLANES: Final = 0xFFFFFFFF
_Z_PIXMAP: Final = 2
_TRUE_COLOUR_DEPTHS: Final = frozenset({24, 32})


class Event(ctypes.Structure):
    """The fields of XEvent that we look at; the union is 24 longs."""

    class Data(ctypes.Union):
        """What follows the fields that all events have."""

        _fields_ = (
            ("client", c_long * 7),  # message_type, format, data.l[5]
            ("padding", c_long * 19),
        )

    _fields_ = (
        ("type", c_int),
        ("serial", c_ulong),
        ("send_event", c_int),
        ("display", c_void_p),
        ("window", c_ulong),
        ("data", Data),
    )


_ErrorHandler = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p)
_SIGNATURES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "XOpenDisplay": (c_void_p, (c_char_p,)),
    "XCloseDisplay": (c_int, (c_void_p,)),
    "XConnectionNumber": (c_int, (c_void_p,)),
    "XDefaultScreen": (c_int, (c_void_p,)),
    "XDefaultRootWindow": (c_ulong, (c_void_p,)),
    "XDefaultDepth": (c_int, (c_void_p, c_int)),
    "XDefaultGC": (c_void_p, (c_void_p, c_int)),
    "XInternAtom": (c_ulong, (c_void_p, c_char_p, c_int)),
    "XSelectInput": (c_int, (c_void_p, c_ulong, c_long)),
    "XGetSelectionOwner": (c_ulong, (c_void_p, c_ulong)),
    "XCreateSimpleWindow": (
        c_ulong,
        (c_void_p, c_ulong, c_int, c_int, c_uint, c_uint, c_uint, c_ulong, c_ulong),
    ),
    "XSetWindowBackgroundPixmap": (c_int, (c_void_p, c_ulong, c_ulong)),
    "XChangeProperty": (
        c_int,
        (c_void_p, c_ulong, c_ulong, c_ulong, c_int, c_int, c_void_p, c_int),
    ),
    "XStoreName": (c_int, (c_void_p, c_ulong, c_char_p)),
    "XDestroyWindow": (c_int, (c_void_p, c_ulong)),
    "XClearWindow": (c_int, (c_void_p, c_ulong)),
    "XGetGeometry": (
        c_int,
        (
            c_void_p,
            c_ulong,
            POINTER(c_ulong),
            POINTER(c_int),
            POINTER(c_int),
            POINTER(c_uint),
            POINTER(c_uint),
            POINTER(c_uint),
            POINTER(c_uint),
        ),
    ),
    "XGetImage": (
        c_void_p,
        (c_void_p, c_ulong, c_int, c_int, c_uint, c_uint, c_ulong, c_int),
    ),
    "XGetPixel": (c_ulong, (c_void_p, c_int, c_int)),
    "XPutPixel": (c_int, (c_void_p, c_int, c_int, c_ulong)),
    "XPutImage": (
        c_int,
        (c_void_p, c_ulong, c_void_p, c_void_p, c_int, c_int, c_int, c_int, c_uint, c_uint),
    ),
    "XDestroyImage": (c_int, (c_void_p,)),
    "XSendEvent": (c_int, (c_void_p, c_ulong, c_int, c_long, c_void_p)),
    "XPending": (c_int, (c_void_p,)),
    "XNextEvent": (c_int, (c_void_p, c_void_p)),
    "XFlush": (c_int, (c_void_p,)),
    "XSync": (c_int, (c_void_p, c_int)),
    "XSetErrorHandler": (c_void_p, (_ErrorHandler,)),
}


def _ignore_error(_display: int, _event: int) -> int:
    """Windows of others vanish at any time; Xlib's own handler would end the process."""
    return 0


_IGNORE_ERROR: Final = _ErrorHandler(_ignore_error)


class XDisplay:
    """A connection to the X server of `$DISPLAY`."""

    def __init__(self) -> None:
        """Connect.

        Raises:
            NoDisplayError: no Xlib, no server, or one with few colours.
        """
        try:
            library = ctypes.CDLL("libX11.so.6")
        except OSError as error:
            raise NoDisplayError("There is no Xlib here, so no tray for an icon.") from error
        self._functions = {name: library[name] for name in _SIGNATURES}
        for name, (result, arguments) in _SIGNATURES.items():
            self._functions[name].restype = result
            self._functions[name].argtypes = arguments
        self._display = self._functions["XOpenDisplay"](None)
        if not self._display:
            raise NoDisplayError("There is no X display here, so no tray for an icon.")
        self._functions["XSetErrorHandler"](_IGNORE_ERROR)
        self.screen: int = self._call("XDefaultScreen")
        self.root: int = self._call("XDefaultRootWindow")
        if self._call("XDefaultDepth", self.screen) not in _TRUE_COLOUR_DEPTHS:
            self.close()
            raise NoDisplayError("This X display has too few colours for an icon.")

    def fileno(self) -> int:
        """Return what to wait for."""
        return int(self._call("XConnectionNumber"))

    def close(self) -> None:
        """Leave the server; our windows are gone."""
        self._call("XCloseDisplay")

    def atom(self, name: str) -> int:
        """Return the number of a name."""
        return int(self._call("XInternAtom", name.encode(), 0))

    def watch(self, window: int, mask: int) -> None:
        """Get the events of a window; of one that is gone, none."""
        self._call("XSelectInput", window, mask)

    def selection_owner(self, atom: int) -> int:
        """Return the window that owns a selection; 0: none."""
        return int(self._call("XGetSelectionOwner", atom))

    def make_window(self, size: int) -> int:
        """Return a new window, not shown yet, that shows its parent's background."""
        window = int(self._call("XCreateSimpleWindow", self.root, 0, 0, size, size, 0, 0, 0))
        self._call("XSetWindowBackgroundPixmap", window, _PARENT_RELATIVE)
        self.watch(window, EXPOSURE | BUTTON_PRESS | STRUCTURE_NOTIFY)
        return window

    def set_numbers(self, window: int, name: str, kind: str, numbers: tuple[int, ...]) -> None:
        """Set a property of 32 bit numbers; `kind` names its type."""
        values = (c_long * len(numbers))(*numbers)
        atoms = (self.atom(name), self.atom(kind))
        self._call("XChangeProperty", window, *atoms, 32, 0, values, len(numbers))

    def set_name(self, window: int, name: str) -> None:
        """Set a window's name, which assistive programs read."""
        self._call("XStoreName", window, name.encode("latin-1", "replace"))

    def destroy(self, window: int) -> None:
        """Destroy a window."""
        self._call("XDestroyWindow", window)
        self.flush()

    def size(self, window: int) -> tuple[int, int]:
        """Return width and height; zeros if the window is gone."""
        root, numbers = c_ulong(), [c_uint() for _ in range(4)]
        x, y = c_int(), c_int()
        places = (byref(root), byref(x), byref(y), *(byref(number) for number in numbers))
        found = self._call("XGetGeometry", window, *places)
        return (numbers[0].value, numbers[1].value) if found else (0, 0)

    def send(self, window: int, kind: int, numbers: tuple[int, int, int, int, int]) -> None:
        """Send a client message about `window` (itself, or one in `numbers`) to it."""
        event = Event(type=33, window=window)
        event.data.client[:] = (kind, 32, *numbers)
        self._call("XSendEvent", window, 0, 0, byref(event))
        self.flush()

    def events(self) -> list[Event]:
        """Return what has come; waits for nothing."""
        found = []
        while self._call("XPending"):
            event = Event()
            self._call("XNextEvent", byref(event))
            found.append(event)
        return found

    def blend(self, window: int, rgba: bytes, width: int, height: int) -> None:
        """Paint an image (height x width x 4 bytes) in the middle of a window.

        The background that shines through is the window's own, as its parent painted it.
        """
        self._call("XClearWindow", window)
        wide, high = self.size(window)
        width, height, stride = min(width, wide), min(height, high), 4 * width
        image = self._call("XGetImage", window, 0, 0, wide, high, _ALL_PLANES, _Z_PIXMAP)
        if not image:
            return  # the window is gone or covered; it will ask again
        left, top = (wide - width) // 2, (high - height) // 2
        get_pixel, put_pixel = self._functions["XGetPixel"], self._functions["XPutPixel"]
        for y in range(height):
            for x in range(width):
                red, green, blue, alpha = rgba[y * stride + 4 * x : y * stride + 4 * x + 4]
                below = get_pixel(image, left + x, top + y)
                put_pixel(image, left + x, top + y, over((red, green, blue), alpha, below))
        graphics = self._call("XDefaultGC", self.screen)
        self._call("XPutImage", window, graphics, image, 0, 0, 0, 0, wide, high)
        self._functions["XDestroyImage"](image)
        self.flush()

    def flush(self) -> None:
        """Send what waits to be sent."""
        self._call("XFlush")

    def _call(self, name: str, *arguments: Any) -> Any:
        return self._functions[name](self._display, *arguments)


def over(colour: tuple[int, int, int], alpha: int, below: int) -> int:
    """Return a pixel (0xRRGGBB) of a colour over another pixel."""
    channels = ((below >> 16) & 0xFF, (below >> 8) & 0xFF, below & 0xFF)
    mixed = [(a * alpha + b * (255 - alpha)) // 255 for a, b in zip(colour, channels, strict=True)]
    return (mixed[0] << 16) | (mixed[1] << 8) | mixed[2]
