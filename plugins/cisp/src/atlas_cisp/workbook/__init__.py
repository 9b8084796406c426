"""The run as an Excel workbook: what stands in it, how it is written, how a filled one is read back.

The journal is the record, not the workbook. A copy is laid out from the journal as it was at one head;
reading it back lays it out again at that head, so that any change outside the fields for a person shows.
"""

from __future__ import annotations

__all__: list[str] = []
