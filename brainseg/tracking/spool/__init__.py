"""The local record of a run that its store hasn't taken yet."""
