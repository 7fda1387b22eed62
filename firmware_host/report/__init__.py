"""What a device got right and wrong on labelled images, as a page to look at."""

from firmware_host.report.numbers import Judged
from firmware_host.report.pages import write_report

__all__ = ["Judged", "write_report"]
