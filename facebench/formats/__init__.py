"""Files of the field, read as their makers wrote them and trusted in nothing.

Recognition: `recordio` reads training sets (``train.rec``), `bins` verification sets (``lfw.bin``),
`pairs` the pair lists of LFW and its kin, `ijb` the meta files of IJB-B and IJB-C. Expression:
`fer2013` the pixels, `votes` the votes of FER+. Action units: `action_units` their codes and
grades, `folds` who is in which part. `matlab` reads ``.mat``, `text` lists of lines. Every reader
runs no code that a file brings, takes memory in proportion to what is really there, and says of a
broken file where it is broken.
"""
