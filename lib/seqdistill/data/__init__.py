"""Data sets: raw files -> one event table and one item table, checked at the door."""

from seqdistill.data.store import convert, load, present
from seqdistill.data.tables import Dataset, coded, statistics

__all__ = ["Dataset", "coded", "convert", "load", "present", "statistics"]
