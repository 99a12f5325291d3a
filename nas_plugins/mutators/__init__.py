"""Mutators: how a supernet's gates are driven, one published method a file."""
