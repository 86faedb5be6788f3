"""A model as a file for other programs: ONNX, LiteRT or Keras, checked against the original before it is kept.

formats.py      the formats, and which packages each needs
onnx_file.py    ONNX: written, and run by ONNX Runtime; litert_file.py and keras_file.py, the same for theirs
description.py  what a program has to know to use the file, as text that the file carries
check.py        how far the file's probabilities and masks are from the model's; check_slices.py, on which slices
export.py       the story of an export
"""
