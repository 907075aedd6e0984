"""From a run or other people's files to the next version of a store."""
