"""Numbers, sizes, dates and durations as a language writes them; Babel's data would be 30 MB."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_agent.core.sizes import UNITS

if TYPE_CHECKING:
    from time import struct_time

__all__ = ["FORMATS", "Formats"]

_DECIMAL: Final = re.compile(r"-?\d+\.\d+")
_LARGE: Final = ((1e24, "Y"), (1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"))
_THOUSANDS: Final = ((1e6, "M"), (1e3, "k"))
_NARROW: Final = "\N{NARROW NO-BREAK SPACE}"


@dataclass(frozen=True)
class Formats:
    """How one language writes numbers and dates."""

    decimal: str
    group: str
    date: str
    """A template of `str.format`: year, month, day."""
    short_date: str
    months: tuple[str, ...]
    spans: tuple[str, str, str, str]
    """Short for days, hours, minutes, seconds."""

    def number(self, value: float, digits: int | None = None) -> str:
        """Return a number with that many decimals; None: as many as it needs, at most 4 digits."""
        if isinstance(value, int) or float(value).is_integer():
            text = f"{int(value):,}" if not digits else f"{value:,.{digits}f}"
        elif digits is None:
            text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
        else:
            text = f"{value:,.{digits}f}"
        return self.decimal_text(text, grouped=True)

    def decimal_text(self, text: str, *, grouped: bool = False) -> str:
        """Return an English number with this language's separators; any other text unchanged."""
        if grouped:
            return text.translate(str.maketrans(",.", self.group + self.decimal))
        return text.replace(".", self.decimal) if _DECIMAL.fullmatch(text) else text

    def amount(self, value: float) -> str:
        """Return a large number in three digits: "1.23 M"."""
        if value < 10_000:
            return self.number(round(value, 2) if value < 100 else round(value))
        for size, prefix in (*_LARGE, *_THOUSANDS):
            if value >= size:
                return f"{self._three(value / size)}{_NARROW}{prefix}"
        return self.number(value)

    def size(self, count: float) -> str:
        """Return bytes: "1.5 GB"."""
        for unit, size in reversed(UNITS.items()):
            if count >= size:
                return f"{self._three(count / size)}{_NARROW}{unit}"
        return f"{int(count)}{_NARROW}B"

    def credit(self, flops: float) -> str:
        """Return credit: "3.4 TFLOP"."""
        for size, prefix in (*_LARGE, *_THOUSANDS):
            if flops >= size:
                return f"{self._three(flops / size)}{_NARROW}{prefix}FLOP"
        return f"{int(flops)}{_NARROW}FLOP"

    def energy(self, kwh: float) -> str:
        """Return energy in Wh below 1 kWh, else in kWh."""
        if 0 < kwh < 5e-5:
            return f"< {self.number(0.1)}{_NARROW}Wh"
        if kwh < 1:
            return f"{self.number(round(kwh * 1000, 0 if kwh >= 0.01 else 1))}{_NARROW}Wh"
        return f"{self._three(kwh)}{_NARROW}kWh"

    def weight(self, grams: float) -> str:
        """Return a weight in g below 1 kg, else in kg."""
        if grams < 1000:
            return f"{self.number(round(grams, 0 if grams >= 10 else 1))}{_NARROW}g"
        return f"{self._three(grams / 1000)}{_NARROW}kg"

    def span(self, seconds: float) -> str:
        """Return a duration in its two largest units: "1 h 5 min"."""
        left = max(0, round(seconds))
        if left >= 60:
            left = round(left / 60) * 60
        parts: list[str] = []
        for size, unit in zip((86_400, 3600, 60, 1), self.spans, strict=True):
            whole, left = divmod(left, size)
            if whole and len(parts) < 2:
                parts.append(f"{whole}{_NARROW}{unit}")
            elif parts:
                break
        return " ".join(parts) or f"0{_NARROW}{self.spans[3]}"

    def clock(self, time: struct_time) -> str:
        """Return the time of day: "14:05"."""
        return f"{time.tm_hour:02}:{time.tm_min:02}"

    def day(self, time: struct_time) -> str:
        """Return a date with its year."""
        return self._date(self.date, time)

    def short_day(self, time: struct_time) -> str:
        """Return a date without its year."""
        return self._date(self.short_date, time)

    def moment(self, time: struct_time, now: struct_time) -> str:
        """Return a time of day, with the date if it is not today."""
        if time[:3] == now[:3]:
            return self.clock(time)
        day = self.short_day(time) if time.tm_year == now.tm_year else self.day(time)
        return f"{day}, {self.clock(time)}"

    def second(self, time: struct_time, now: struct_time) -> str:
        """Return a time of day to the second, with the date if it is not today."""
        return f"{self.moment(time, now)}:{time.tm_sec:02}"

    def _date(self, form: str, time: struct_time) -> str:
        month = self.months[time.tm_mon - 1]
        return form.format(year=time.tm_year, month=month, day=time.tm_mday)

    def _three(self, value: float) -> str:
        digits = 0 if value >= 99.95 else 1
        return self.number(round(value, digits))


FORMATS: Final[dict[str, Formats]] = {
    "en": Formats(
        decimal=".",
        group=",",
        date="{day} {month} {year}",
        short_date="{day} {month}",
        months=(
            *("Jan", "Feb", "Mar", "Apr", "May", "June"),
            *("July", "Aug", "Sep", "Oct", "Nov", "Dec"),
        ),
        spans=("d", "h", "min", "s"),
    ),
    "de": Formats(
        decimal=",",
        group=".",
        date="{day}. {month} {year}",
        short_date="{day}. {month}",
        months=(
            *("Jan.", "Feb.", "März", "Apr.", "Mai", "Juni"),
            *("Juli", "Aug.", "Sept.", "Okt.", "Nov.", "Dez."),
        ),
        spans=("Tg.", "Std.", "Min.", "Sek."),
    ),
    "pl": Formats(
        decimal=",",
        group="\N{NO-BREAK SPACE}",
        date="{day} {month} {year}",
        short_date="{day} {month}",
        months=(
            *("sty", "lut", "mar", "kwi", "maj", "cze"),
            *("lip", "sie", "wrz", "paź", "lis", "gru"),
        ),
        spans=("d", "godz.", "min", "s"),
    ),
}
