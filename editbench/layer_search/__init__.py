"""Which layers to edit in a model that has no settings yet: ``editbench locate``.

tracing.py  causal tracing: where a known answer passes through the model
sweep.py    single ROME edits at every layer, each rolled back, scored as in a run
choice.py   from numbers a layer to the layers to edit, by a rule that is written there
tables.py   what is printed
plot.py     what is drawn (plotly)
command.py  the command: composes, loads, measures, prints, writes locate.json and locate.html
"""

from __future__ import annotations
