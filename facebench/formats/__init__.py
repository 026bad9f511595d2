"""Files of the recognition field, read as their makers wrote them and trusted in nothing.

`recordio` reads training sets (``train.rec``), `bins` verification sets (``lfw.bin``), `pairs` the
pair lists of LFW and its kin, `ijb` the meta files of IJB-B and IJB-C. Every reader runs no code
that a file brings, takes memory in proportion to what is really there, and says of a broken file
where it is broken.
"""
