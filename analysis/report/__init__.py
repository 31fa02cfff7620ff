"""The report: one page with pictures and findings, which opens anywhere and asks nobody for anything.

`write_report` is the way in. All numbers come from the public statistics; what is drawn lies in `assets`.
"""

from analysis.report.writing import report_text, write_report

__all__ = ["report_text", "write_report"]
