"""Interpretability: where a trained network looks, measured against where a face acts.

`opened` rebuilds a finished trial, `layers` reads and moves the maps inside any Flax module, `maps`
turns them into heat maps, `measures` compares those with maps of action units, `curves` hides and
shows pixels by them, `report` does it all for one trial, `study` compares networks with experts
and with one another; `aligned`, `plots` and `text` show it, `run` writes the files, `verb` is the
command. docs/interpret.md says what each number means.
"""
