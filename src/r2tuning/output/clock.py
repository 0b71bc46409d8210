"""Times as a video player shows them."""

from __future__ import annotations

import math


def format_clock(seconds: float, decimals: int = 1) -> str:
    """Writes a time as ``m:ss.s``, or ``h:mm:ss.s`` from an hour on.

    The whole time is rounded (ties to even) before it is split, so seconds never show as 60.

    Args:
        seconds: Time in seconds, finite and not negative.
        decimals: Digits of a second, 0 for none.

    Returns:
        The time, with as many digits of a second as asked for.

    Raises:
        ValueError: If ``seconds`` is negative or not finite.

    Examples:
        >>> format_clock(83.25)
        '1:23.2'
        >>> format_clock(59.96), format_clock(3599.96)
        ('1:00.0', '1:00:00.0')
        >>> format_clock(7384.5, decimals=0)
        '2:03:04'
        >>> format_clock(-1.0)
        Traceback (most recent call last):
        ...
        ValueError: a clock shows finite times from 0 s on, not -1.0 s
    """
    if not (seconds >= 0 and math.isfinite(seconds)):
        raise ValueError(f"a clock shows finite times from 0 s on, not {seconds} s")
    # float() first: a float32 would lose tenths of a second in a long video.
    whole, fraction = divmod(round(float(seconds) * 10**decimals), 10**decimals)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    clock = f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
    return f"{clock}.{fraction:0{decimals}d}" if decimals else clock
