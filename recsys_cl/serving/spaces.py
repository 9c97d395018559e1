"""The spaces that answer, by name; see `image_lookup.py`."""

BEHAVIOR, IMAGE, BY_IMAGE = "behavior", "image", "behavior_by_image"
