"""A town that happens, told by a narrator, and read back by a parser."""
