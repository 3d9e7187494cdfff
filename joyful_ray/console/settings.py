"""Lists settings for people."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from joyful_ray.console.screen import Screen
from joyful_ray.wording import counted

if TYPE_CHECKING:
    from joyful_ray.setting_reference import SettingEntry

WIDTH, INDENT = 80, "    "


def show_settings(screen: Screen, entries: Sequence[SettingEntry]) -> None:
    """Print each setting: its path, then type and range, default and meaning, wrapped to 80 columns."""
    for entry in entries:
        screen.say(entry.path, style="bold")
        for text in (entry.kind.replace("`", ""), f"default {entry.default}", entry.meaning.replace("`", "")):
            for line in textwrap.wrap(text, WIDTH - len(INDENT), break_on_hyphens=False):
                screen.say(INDENT + line)
    screen.say(f"\n{counted(len(entries), 'setting')}; change one with --set path=value")
