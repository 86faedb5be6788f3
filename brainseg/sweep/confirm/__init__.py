"""Whether the winners of a study hold: they are trained again with other seeds, and scored on the test part."""
