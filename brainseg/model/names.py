"""How the name of a model ends that sees windows of an image in place of the whole, resized.

So a file alone is used rightly. Without Keras, so that what only asks for the names starts fast.
"""

OF_WINDOWS = "_of_windows"
OF_STANDARDIZED_WINDOWS = "_of_standardized_windows"  # the image is standardised before it is cut
