"""Self-contained HTML pages with metrics and plots: of one run, and of several runs side by side."""

from keras_cbpnet.training.report.comparison import write_comparison
from keras_cbpnet.training.report.one_run import write_report

__all__ = ["write_comparison", "write_report"]
