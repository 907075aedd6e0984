"""`train --seeds`: several seeds of a recipe, each in a process of its own, one after another or on a Ray cluster."""
