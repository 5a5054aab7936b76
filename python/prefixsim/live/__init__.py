"""Servers that run: what they are asked is recorded, and what they do is compared with replays."""

from __future__ import annotations
